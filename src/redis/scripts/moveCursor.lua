-- Moves a job's cursor, if it is still where the job found it.
--
-- KEYS[1]  the cursor's key
-- ARGV[1]  value that was found, empty for none
-- ARGV[2]  new value
-- Output   'applied' or 'stale'
--
-- The cursor lies beside the copies it speaks of, so that it is lost or set back with them. A run
-- under way when that happens must not write as if nothing had.

local stored = redis.call('GET', KEYS[1]) or ''
if stored ~= ARGV[1] then
  return 'stale'
end
redis.call('SET', KEYS[1], ARGV[2])
return 'applied'
