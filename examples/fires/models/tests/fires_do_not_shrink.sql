-- description: A large fire that lost half of its acres from one day to the next was misreported on one of them.
-- severity: warn
select id, name, day, acres, grown
from models.daily_growth
where share < -0.5 and acres - grown > 1000
