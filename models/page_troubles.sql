-- kind: incremental
-- key: [day, trouble]
-- grain: one kind of trouble on one day
-- description: >
--   How many product pages could not be read, by day and kind. `shop.page_errors` only ever grows: a build reads its
--   new rows and counts anew the days that these belong to.
-- columns:
--   trouble: what was wrong with the page, without its address and size
-- tests:
--   - not_null: [day, trouble]
--   - range: {column: pages, min: 1}
select
  day,
  coalesce(nullif(regexp_extract(reason, '^(cut off|no \S+|HTTP \d+)'), ''), 'other') as trouble,
  count(distinct sku) as pages
from shop.page_errors
group by all
