<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// What php/worker.php serves in ./run bench worker.

declare(strict_types=1);

return ['echo' => static fn (string $data): string => $data];
