-- description: The five largest fires of those that started in each month.
-- grain: one fire
-- columns:
--   month: its first day
--   place: 1 is the largest of the month
-- tests:
--   - range: {column: place, min: 1, max: 5}
select
  cast(date_trunc('month', started) as date) as month,
  row_number() over (partition by month order by acres desc, id) as place,
  name, counties, acres, id
from fires
where acres is not null
qualify place <= 5
