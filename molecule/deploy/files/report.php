<?php

// The functions of the PHP workers.

declare(strict_types=1);

return ['report' => static fn (string $data): string => strrev($data)];
