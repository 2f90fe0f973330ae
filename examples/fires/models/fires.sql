-- kind: table
-- key: [id]
-- grain: one fire
-- description: >
--   Every fire that was ever listed, with what was last known of it. A fire leaves the list when it is out, or of no
--   interest any more: its last version says what it was.
-- columns:
--   started: local time in California; the source says "Z" but means that
--   acres: burned, as last reported (`arg_max` passes over null, which late versions often have); null where it never was
--   contained: percent, as last reported
--   listed_from: when it was first seen in the list
--   listed_to: when it was seen to have left the list; null while it is in it
-- tests:
--   - not_null: [id, name, started, listed_from]
--   - range: {column: contained, min: 0, max: 100}
--   - range: {column: acres, min: 0, max: 2000000}
select
  UniqueId as id,
  arg_max(Name, valid_from) as name,
  arg_max(Counties, valid_from) as counties,
  cast(left(arg_max(Started, valid_from), 19) as timestamp) as started,
  arg_max(AcresBurned, valid_from) as acres,
  arg_max(PercentContained, valid_from) as contained,
  min(valid_from) as listed_from,
  max(valid_from) filter (where change = 'disappeared' and valid_to is null) as listed_to
from ca_fires.incidents_history
group by UniqueId
