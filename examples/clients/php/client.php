<?php
// Reads the text of a picture with edge-ocr's service: php client.php IMAGE [URL]

declare(strict_types=1);

function fail(string $message): never
{
    fwrite(STDERR, "Error: $message\n");
    exit(1);
}

const USAGE = 'usage: client IMAGE [URL]';
if (array_intersect(['-h', '--help'], $argv)) {
    echo USAGE, "\n";
    exit;
}
if ($argc < 2 || $argc > 3) {
    fail(USAGE);
}
[$image, $url] = [$argv[1], $argv[2] ?? 'http://127.0.0.1:8080/ocr'];

$content = @file_get_contents($image) ?: fail("$image cannot be read");
$context = stream_context_create(['http' => [
    'method' => 'POST',
    'header' => 'Content-Type: application/json',
    'content' => json_encode(['image' => base64_encode($content)]),
    'timeout' => 120,
    // The body of an error has the reason.
    'ignore_errors' => true,
]]);
$body = @file_get_contents($url, false, $context);
if ($body === false) {
    fail(error_get_last()['message'] ?? "$url does not answer");
}
$answer = json_decode($body, true) ?? fail("$url gave no JSON");
if ($answer['errorCode'] !== 0) {
    fail("{$answer['errorCode']}: {$answer['errorMsg']}");
}
foreach ($answer['result']['texts'] as $line) {
    printf("%.3f\t%s\n", $line['score'], $line['text']);
}
$saved = pathinfo($image, PATHINFO_FILENAME) . '_ocr.jpg';
if (file_put_contents($saved, base64_decode($answer['result']['image'])) === false) {
    fail("$saved cannot be written");
}
fwrite(STDERR, "saved $saved\n");
