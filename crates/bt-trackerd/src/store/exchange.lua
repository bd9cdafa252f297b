-- One swarm, at one moment of the store's own clock: what was heard here is written, then what is new of it is read. In this
-- order, a peer that left and came again within a second is not read as one that left.
--
-- KEYS  1 the peers: a sorted set of compact addresses, score = 4 × when it was heard of, in ms + its standing
--       2 the count of completed downloads
-- ARGV  1 expiry in ms · 2 least score to read · 3 most peers to read · 4 downloads completed · 5 at least so many in all
--       then for each peer: 4 × its age in ms − its standing · its compact address
-- Returns the time in ms, the downloads, and the peers with their scores.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if #ARGV > 5 then
  local told = {}
  for i = 6, #ARGV, 2 do
    told[#told + 1] = string.format('%.0f', now * 4 - ARGV[i])
    told[#told + 1] = ARGV[i + 1]
  end
  redis.call('ZADD', KEYS[1], 'GT', unpack(told))
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', (now - ARGV[1]) * 4))
  local over = redis.call('ZCARD', KEYS[1]) - 200000
  if over > 0 then
    redis.call('ZREMRANGEBYRANK', KEYS[1], 0, over - 1)
  end
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
local count = tonumber(redis.call('GET', KEYS[2]) or 0)
if ARGV[4] ~= '0' then
  count = redis.call('INCRBY', KEYS[2], ARGV[4])
end
if tonumber(ARGV[5]) > count then
  count = tonumber(ARGV[5])
  redis.call('SET', KEYS[2], ARGV[5], 'PX', 90000000)
end
if count > 0 and (#ARGV > 5 or ARGV[4] ~= '0') then
  redis.call('PEXPIRE', KEYS[2], 90000000)
end
local heard = redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[2], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[3])
return { now, count, heard }
