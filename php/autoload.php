<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

// Loads the classes of src/ when they are first used, and its functions at once. Composer's autoloader
// does the same from composer.json: use either.

namespace Gearvisor;

spl_autoload_register(static function (string $class): void {
    $file = __DIR__ . '/src/' . str_replace('\\', '/', substr($class, strlen('Gearvisor\\'))) . '.php';
    if (str_starts_with($class, 'Gearvisor\\') && is_file($file)) {
        require $file;
    }
});

foreach (['command_line', 'function_files', 'process', 'servers', 'text'] as $functions) {
    require_once __DIR__ . "/src/$functions.php";
}
