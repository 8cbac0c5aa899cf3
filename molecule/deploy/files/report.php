<?php

// The functions of the PHP workers; one release forgets one of them.

declare(strict_types=1);

$functions = ['report' => static fn (string $data): string => strrev($data)];
if (basename(__DIR__) !== 'forgets') {
    $functions['report_again'] = $functions['report'];
}
return $functions;
