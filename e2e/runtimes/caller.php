<?php
// Calls a model API over and over with PHP's own streams, each time on a new connection.
$body = json_encode(["model" => "gpt-4o-mini", "messages" => [["role" => "user", "content" => "Hi"]]]);
$http = ["method" => "POST", "header" => "content-type: application/json", "content" => $body];
$context = stream_context_create(["http" => $http, "ssl" => ["cafile" => getenv("SSL_CERT_FILE")]]);
while (true) {
    @file_get_contents("https://api.openai.com/v1/chat/completions", false, $context);
    usleep(500000);
}
