<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

namespace Gearvisor;

/** Thrown by a worker's function: the client learns that the job failed, without an exception. */
final class JobFailed extends \RuntimeException
{
}
