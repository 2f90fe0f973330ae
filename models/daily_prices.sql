-- kind: table
-- key: [sku, day]
-- grain: one product at the end of one day
-- description: >
--   What every product cost, and how many were left, at the end of every day. The last day is still going on: its
--   rows change with each load of that day, and the rows of the days before never do.
-- columns:
--   day: in UTC
--   price: the cheapest variant, in the shop's currency
--   stock: null where the product's page could not be read
-- tests:
--   - not_null: [sku, day, price]
--   - range: {column: price, min: 0.01, max: 10000}
--   - range: {column: stock, min: 0}
--   - relationships: {column: category, to: shop.categories.slug, severity: warn}
--   - freshness: {column: day, within: 2 days, severity: warn}
with days as (
  select distinct cast(valid_from as date) as day from shop.products_history
)
select v.sku, d.day, v.title, v.category, v.price, v.stock
from days as d
join shop.products_history as v
  on v.valid_from < d.day + 1 and coalesce(v.valid_to >= d.day + 1, true)
where v.change <> 'disappeared'
