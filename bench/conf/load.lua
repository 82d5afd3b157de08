-- What wrk sends. With TOKENS, a file of one token a line: transfers by their holders, in turn; else what stands in the URL.
-- Prints one line that the runner reads.
local tokens = os.getenv("TOKENS")

if tokens then
  local requests, next_one = {}, 0

  function init()
    for token in io.lines(tokens) do
      requests[#requests + 1] = wrk.format("POST", nil, {
        ["Authorization"] = "Bearer " .. token,
        ["Content-Type"] = "application/json",
        ["Origin"] = os.getenv("ORIGIN"),
        ["X-Client"] = "android",
      }, os.getenv("BODY"))
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
