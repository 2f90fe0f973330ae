-- description: >
--   What is burning, by county. Nothing is stored, so it can be asked for any moment since 2020; in winter there is
--   nothing.
-- grain: one county; a fire counts for the first that it names
-- columns:
--   largest: the name of its largest fire
--   contained: percent, each fire weighed by its acres
-- tests:
--   - unique: county
--   - range: {column: contained, min: 0, max: 100}
select
  coalesce(Counties[1], 'not said') as county,
  count(*) as fires,
  sum(AcresBurned) as acres,
  arg_max(Name, AcresBurned) as largest,
  round(
    sum(AcresBurned * PercentContained)
    / nullif(sum(AcresBurned) filter (where PercentContained is not null), 0), 1
  ) as contained
from ca_fires.incidents
group by all
