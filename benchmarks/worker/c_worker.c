/* Copyright: Gearvisor contributors
 * GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * The worker in C that ./run bench worker measures: c_worker PORT CLIENT_ID serves `echo`.
 */
#include <libgearman/gearman.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* As a worker that minds signals does: look up from the connection once a second. */
enum { POLL_MS = 1000 };

/* The payload becomes the result as it is, without a copy; libgearman frees it. */
static void *echo(gearman_job_st *job, void *context, size_t *size, gearman_return_t *code)
{
    (void)context;
    *code = GEARMAN_SUCCESS;
    return gearman_job_take_workload(job, size);
}

static void check(gearman_worker_st *worker, gearman_return_t code)
{
    if (gearman_failed(code)) {
        fprintf(stderr, "c_worker: %s\n", gearman_worker_error(worker));
        exit(1);
    }
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fputs("usage: c_worker PORT CLIENT_ID\n", stderr);
        return 2;
    }
    gearman_worker_st *worker = gearman_worker_create(NULL);
    gearman_worker_set_timeout(worker, POLL_MS);
    check(worker, gearman_worker_add_server(worker, "127.0.0.1", atoi(argv[1])));
    check(worker, gearman_worker_set_identifier(worker, argv[2], strlen(argv[2])));
    check(worker, gearman_worker_add_function(worker, "echo", 0, echo, NULL));
    for (;;) {
        gearman_return_t code = gearman_worker_work(worker);
        if (code != GEARMAN_TIMEOUT && code != GEARMAN_IO_WAIT && code != GEARMAN_NO_JOBS)
            check(worker, code);
    }
}
