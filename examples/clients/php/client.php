<?php
// Reads the text of a picture with edge-ocr's service: php client.php [--words] IMAGE [URL]

declare(strict_types=1);

function fail(string $message): never
{
    fwrite(STDERR, "Error: $message\n");
    exit(1);
}

const USAGE = 'usage: client [--words] IMAGE [URL]';
if (array_intersect(['-h', '--help'], $argv)) {
    echo USAGE, "\n";
    exit;
}
$words = in_array('--words', $argv, true);
$given = array_values(array_diff(array_slice($argv, 1), ['--words']));
if (count($given) < 1 || count($given) > 2) {
    fail(USAGE);
}
[$image, $url] = [$given[0], $given[1] ?? 'http://127.0.0.1:8080/ocr'];

$content = @file_get_contents($image) ?: fail("$image cannot be read");
$context = stream_context_create(['http' => [
    'method' => 'POST',
    'header' => 'Content-Type: application/json',
    'content' => json_encode([
        'image' => base64_encode($content),
        'inferenceParams' => ['returnWordBox' => $words],
    ]),
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
    foreach ($line['words'] ?? [] as $word) {
        $corners = array_map(fn (array $corner): string => implode(',', $corner), $word['poly']);
        printf("\t%.3f\t%s\t%s\n", $word['score'], $word['text'], implode(' ', $corners));
    }
}
$saved = pathinfo($image, PATHINFO_FILENAME) . '_ocr.jpg';
if (file_put_contents($saved, base64_decode($answer['result']['image'])) === false) {
    fail("$saved cannot be written");
}
fwrite(STDERR, "saved $saved\n");
