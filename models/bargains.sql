-- description: What costs less now than it did on some day before.
-- grain: one product on sale
-- columns:
--   highest: what it cost at most at the end of a day
--   percent_off: by how much it is cheaper now, rounded
-- tests:
--   - unique: sku
--   - range: {column: percent_off, min: 0, max: 100}
select
  p.sku, p.title, p.category, p.price, h.highest,
  cast(round(100 * (1 - p.price / h.highest)) as integer) as percent_off
from shop.products as p
join (select sku, max(price) as highest from daily_prices group by sku) as h on h.sku = p.sku
where p.price < h.highest
