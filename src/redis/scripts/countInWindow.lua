-- Counts one more in a fixed window, which the first count opens.
--
-- KEYS[1]  the window's key
-- ARGV[1]  milliseconds from the first count to the window's end
-- Output   {count, milliseconds left}
--
-- Count and end are set in one step: an INCR whose EXPIRE got lost would refuse for ever. So a
-- count without an end, or with a later one than a window has (another hand, a clock set back),
-- gets its end now. A key that holds no count is replaced.

local window = tonumber(ARGV[1])
local count = redis.pcall('INCR', KEYS[1])
if type(count) == 'table' then
  redis.call('SET', KEYS[1], '1', 'PX', window)
  return {1, window}
end
local left = redis.call('PTTL', KEYS[1])
if left < 0 or left > window then
  redis.call('PEXPIRE', KEYS[1], window)
  left = window
end
return {count, left}
