<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

namespace Gearvisor;

/**
 * Finds out whether a job server is at an address, with a separate connection and in bounded time.
 *
 * Connecting proves nothing where a local tunnel accepts for a server that is down. And libgearman must
 * not be given a peer of another kind: what it does not expect makes it crash, or loop for ever. So the
 * peer has to echo a packet, and to send nothing else.
 */
final class PeerCheck
{
    private const ECHO_REQ = 16;
    private const ECHO_RES = 17;
    private const SHOWN = 40; // bytes of a wrong answer

    /**
     * @param float $timeout seconds for connecting, and again for the answer
     * @param ?callable(): bool $stop whether to give up early
     * @return ?string what is wrong, or null when it is a job server
     */
    public static function problem(Server $server, float $timeout, ?callable $stop = null): ?string
    {
        $socket = @stream_socket_client("tcp://$server", timeout: $timeout);
        if ($socket === false) {
            return "no answer from $server";
        }
        stream_set_blocking($socket, false);
        $token = random_bytes(8);
        $expected = "\0RES" . pack('NN', self::ECHO_RES, strlen($token)) . $token;
        @fwrite($socket, "\0REQ" . pack('NN', self::ECHO_REQ, strlen($token)) . $token);
        $answer = self::read($socket, $expected, now() + $timeout, $stop ?? static fn (): bool => false);
        fclose($socket);
        return match (true) {
            $answer === $expected => null,
            $answer === '' || str_starts_with($expected, $answer) => "no answer from $server",
            default => "$server is not a job server, it sent '" . escaped(substr($answer, 0, self::SHOWN)) . "'",
        };
    }

    /**
     * Reads until all of $expected came, or something else, or the time is over.
     *
     * @param resource $socket
     */
    private static function read($socket, string $expected, float $end, callable $stop): string
    {
        $answer = '';
        while (str_starts_with($expected, $answer) && $answer !== $expected && !feof($socket) && !$stop()) {
            $left = $end - now();
            if ($left <= 0) {
                break;
            }
            [$read, $write, $except] = [[$socket], null, null];
            // A signal ends it early, with a warning.
            if (@stream_select($read, $write, $except, (int) $left, (int) (fmod($left, 1) * 1e6)) > 0) {
                $answer .= (string) @fread($socket, 4096);
            }
        }
        return $answer;
    }
}
