-- What wrk sends. With TOKENS, a file of one token a line: what stands in the URL by their holders, in turn, with BODY as
-- transfers; else what stands in the URL.
-- Prints one line that the runner reads.
local tokens, body = os.getenv("TOKENS"), os.getenv("BODY")

if tokens then
  local requests, next_one = {}, 0

  function init()
    for token in io.lines(tokens) do
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
