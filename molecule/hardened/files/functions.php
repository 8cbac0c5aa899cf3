<?php

declare(strict_types=1);

return ['upper_php' => static fn (string $data): string => strtoupper($data)];
