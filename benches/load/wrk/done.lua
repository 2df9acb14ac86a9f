-- Prints the figures of a run as one line of JSON, in microseconds where they are times.
done = function(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '{"requests":%d,"bytes":%d,"duration":%d,"p50":%d,"p99":%d,"max":%d,'
         .. '"refused":%d,"unread":%d,"unwritten":%d,"wrong":%d,"late":%d}\n',
      summary.requests, summary.bytes, summary.duration,
      latency:percentile(50), latency:percentile(99), latency.max,
      errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
