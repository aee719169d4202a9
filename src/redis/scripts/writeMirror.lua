-- Writes the copy of one user's balance, unless the stored copy of the same ledger is newer.
--
-- KEYS[1]  credits:{<id>}, the hash of the contract
-- ARGV     ledger, version, balance, held, available, suspended, valid_until: decimal strings,
--          suspended 0 or 1, valid_until unix milliseconds or empty
-- Output   {'applied'} written; {'equal'} this very copy was there; {'stale', version} a newer one
--          was, and stays
--
-- Idempotent. A copy that is damaged, of another type or of another ledger counts as absent. The
-- same version with other values is overwritten: a ledger restored from a backup counts the same
-- numbers again. Versions are compared as doubles, exact up to the ledger's bound of 2^53 - 1.

local FIELDS = {'ledger', 'version', 'balance', 'held', 'available', 'suspended', 'valid_until'}
local VERSION_MAX = 9007199254740991

local stored = redis.pcall('HMGET', KEYS[1], unpack(FIELDS))
if stored.err then
  redis.call('DEL', KEYS[1])
elseif stored[1] == ARGV[1] and stored[2] and string.match(stored[2], '^%d+$') then
  local version = tonumber(stored[2])
  if version <= VERSION_MAX and version > tonumber(ARGV[2]) then
    return {'stale', stored[2]}
  end
  local equal = true
  for index = 1, #FIELDS do
    equal = equal and stored[index] == ARGV[index]
  end
  if equal then
    return {'equal'}
  end
end

local pairs_to_set = {}
for index, field in ipairs(FIELDS) do
  pairs_to_set[#pairs_to_set + 1] = field
  pairs_to_set[#pairs_to_set + 1] = ARGV[index]
end
redis.call('HSET', KEYS[1], unpack(pairs_to_set))
return {'applied'}
