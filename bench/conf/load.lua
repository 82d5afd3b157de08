-- What wrk sends. With TOKENS, a file of one token a line: what stands in the URL by their holders, in turn, with BODY as
-- transfers; with VARIED, a number, what stands in the URL with so many queries, in turn; else what stands in the URL.
-- Prints one line that the runner reads.
local tokens, body, varied = os.getenv("TOKENS"), os.getenv("BODY"), tonumber(os.getenv("VARIED"))

if tokens or varied then
  local requests, next_one = {}, 0

  function init()
    for at = 1, varied or 0 do
      requests[at] = wrk.format("GET", wrk.path .. "?n=" .. at)
    end
    for token in tokens and io.lines(tokens) or function() end do
      local headers = { ["Authorization"] = "Bearer " .. token }
      if body then
        headers["Content-Type"] = "application/json"
        headers["Origin"] = os.getenv("ORIGIN")
        headers["X-Client"] = "android"
      end
      requests[#requests + 1] = wrk.format(body and "POST" or "GET", nil, headers, body)
    end
  end

  function request()
    next_one = next_one % #requests + 1
    return requests[next_one]
  end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d %d\n", summary.requests, summary.duration,
    errors.connect + errors.read + errors.write + errors.timeout, errors.status,
    latency:percentile(50), latency:percentile(99)))
end
