-- Deletes the copy of one user's balance if it is still the one that was seen.
--
-- KEYS[1]  credits:{<id>}
-- ARGV[1]  ledger that was seen
-- ARGV[2]  version that was seen, as it is stored
-- Output   'applied' deleted; 'stale' it has changed since, or is gone
--
-- For copies found ahead of a restored ledger, and of users that are gone: between looking and
-- deleting another process may have written the right one.

local stored = redis.pcall('HMGET', KEYS[1], 'ledger', 'version')
if stored.err or stored[1] ~= ARGV[1] or stored[2] ~= ARGV[2] then
  return 'stale'
end
redis.call('DEL', KEYS[1])
return 'applied'
