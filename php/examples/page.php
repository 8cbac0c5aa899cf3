<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// A web page that has a worker reverse a text and shows the answer: page.php?text=Hello
// It needs the extension in the SAPI that serves it: docs/php.md.

declare(strict_types=1);

/** @throws RuntimeException when no answer comes */
function ask(string $function, string $data): string
{
    $client = new GearmanClient();
    // In milliseconds: without it a request waits for ever where no worker serves the function.
    $client->setTimeout(2000);
    try {
        $client->addServers(getenv('GEARVISOR_SERVERS') ?: '127.0.0.1:4730');
        $answer = @$client->doNormal($function, $data);
    } catch (GearmanException $error) {
        throw new RuntimeException("no job server: {$error->getMessage()}");
    }
    if ($client->returnCode() !== GEARMAN_SUCCESS) {
        throw new RuntimeException("$function gave no answer: {$client->error()}");
    }
    return $answer;
}

$text = $_GET['text'] ?? 'Hello';
// The extension takes no empty payload, and ?text[]= makes an array.
if (!is_string($text) || $text === '') {
    http_response_code(400);
    $line = 'Give a text: ?text=Hello';
} else {
    try {
        $line = ask('reverse', $text);
    } catch (RuntimeException $error) {
        http_response_code(503);
        error_log($error->getMessage());
        $line = 'No worker is available. Try again later.';
    }
}
header('Content-Type: text/html; charset=utf-8');
?>
<!DOCTYPE html>
<title>Reversed</title>
<p><?= htmlspecialchars($line) ?></p>
<p><small>gearman <?= phpversion('gearman') ?>, <?= PHP_SAPI ?></small></p>
