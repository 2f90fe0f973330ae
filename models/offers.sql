-- description: What can be bought, one row for each variant of each product, under its category's name.
-- grain: one variant of one product
-- columns:
--   sku: the product's number in the shop
--   variant: size, form or set, as the shop calls it
--   price: of this variant, in the shop's currency
--   in_stock: whether the shop would sell it now
-- tests:
--   - not_null: [sku, variant, price]
--   - relationships: {column: sku, to: shop.products.sku}
with listed as (
  select sku, title, category, currency, unnest(variants) as variant
  from shop.products
)
select
  l.sku, l.title, c.title as category,
  l.variant.name as variant, l.variant.price as price, l.currency, l.variant.in_stock as in_stock
from listed as l
left join shop.categories as c on c.slug = l.category
