-- description: On the last day, as many products of a category as the shop's own page counts.
-- severity: warn
select c.slug, c.products as counted, count(p.sku) as found
from shop.categories as c
left join models.daily_prices as p
  on p.category = c.slug and p.day = (select max(day) from models.daily_prices)
group by all
having count(p.sku) <> c.products
