-- kind: table
-- key: [id, day]
-- grain: one fire on one day on which something about it was reported
-- description: How much each fire grew from one day with a report to the next one.
-- columns:
--   day: in UTC
--   acres: burned so far, by the last report of the day
--   grown: since the day before in this table; below zero where a report was corrected
--   share: grown, as a part of what had burned before
-- tests:
--   - not_null: [id, day, acres]
--   - relationships: {column: id, to: models.fires.id}
with reports as (
  select UniqueId as id, Name as name, cast(valid_from as date) as day, AcresBurned as acres
  from ca_fires.incidents_history
  where AcresBurned is not null and change <> 'disappeared'
  qualify row_number() over (partition by UniqueId, cast(valid_from as date) order by valid_from desc) = 1
)
select
  id, name, day, acres,
  acres - lag(acres) over by_day as grown,
  round(acres / nullif(lag(acres) over by_day, 0) - 1, 3) as share
from reports
window by_day as (partition by id order by day)
