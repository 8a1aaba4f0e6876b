# Calls a model API over and over with Ruby's OpenSSL, each time on a new connection.
require "json"
require "net/http"

url = URI("https://api.openai.com/v1/chat/completions")
body = JSON.generate(model: "gpt-4o-mini", messages: [{ role: "user", content: "Hi" }])
loop do
  begin
    Net::HTTP.post(url, body, "content-type" => "application/json")
  rescue StandardError
    # It calls again.
  end
  sleep 0.5
end
