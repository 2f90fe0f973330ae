-- description: >
--   How long it took to get hold of a fire: days from its start until a version of the list first gave it as half,
--   and as nine tenths contained. Null where that was not reported, or not yet; below zero where its start is wrong.
-- grain: one fire
-- tests:
--   - unique: id
--   - range: {column: days_to_half, min: 0, severity: warn}
with reached as (
  select
    UniqueId as id,
    min(valid_from) filter (where PercentContained >= 50) as half,
    min(valid_from) filter (where PercentContained >= 90) as nearly
  from ca_fires.incidents_history
  group by UniqueId
)
select
  f.id, f.name, f.acres,
  round(epoch(half - timezone('America/Los_Angeles', f.started)) / 86400, 1) as days_to_half,
  round(epoch(nearly - timezone('America/Los_Angeles', f.started)) / 86400, 1) as days_to_nearly
from fires as f
join reached as r on r.id = f.id
