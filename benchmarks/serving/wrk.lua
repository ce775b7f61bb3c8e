-- wrk's side of a window: POST the file $BODY as $KIND; what was counted is printed as one line of JSON.
local file = assert(io.open(os.getenv("BODY"), "rb"))
wrk.method, wrk.body = "POST", file:read("*a")
file:close()
wrk.headers["Content-Type"] = os.getenv("KIND")

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\n{"requests": %d, "failed": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f}\n', summary.requests,
    e.connect + e.read + e.write + e.status + e.timeout, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
