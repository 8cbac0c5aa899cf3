// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// libgearman in C as a peer; table.py describes what a peer does.

#include <libgearman/gearman.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *outcome = "no answer";
static char *result = NULL, *data = NULL, *warnings = NULL;
static int numerator = -1, denominator = -1;

static char *base64(const unsigned char *bytes, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *text = malloc(4 * (size / 3 + 1) + 1), *to = text;
    for (size_t i = 0; i < size; i += 3) {
        unsigned long group = (unsigned long)bytes[i] << 16;
        group |= (i + 1 < size ? bytes[i + 1] : 0) << 8 | (i + 2 < size ? bytes[i + 2] : 0);
        *to++ = digits[group >> 18 & 63];
        *to++ = digits[group >> 12 & 63];
        *to++ = i + 1 < size ? digits[group >> 6 & 63] : '=';
        *to++ = i + 2 < size ? digits[group & 63] : '=';
    }
    *to = '\0';
    return text;
}

static char *with(char *list, gearman_task_st *task)
{
    char *item = base64(gearman_task_data(task), gearman_task_data_size(task));
    char *longer = malloc((list ? strlen(list) : 0) + strlen(item) + 4);
    sprintf(longer, "%s%s\"%s\"", list ? list : "", list ? "," : "", item);
    return longer;
}

static gearman_return_t on_complete(gearman_task_st *task)
{
    outcome = "done";
    result = base64(gearman_task_data(task), gearman_task_data_size(task));
    return GEARMAN_SUCCESS;
}

static gearman_return_t on_exception(gearman_task_st *task)
{
    on_complete(task);
    outcome = "exception";
    return GEARMAN_SUCCESS;
}

static gearman_return_t on_fail(gearman_task_st *task)
{
    (void)task;
    outcome = "failed";
    return GEARMAN_SUCCESS;
}

static gearman_return_t on_data(gearman_task_st *task)
{
    data = with(data, task);
    return GEARMAN_SUCCESS;
}

static gearman_return_t on_warning(gearman_task_st *task)
{
    warnings = with(warnings, task);
    return GEARMAN_SUCCESS;
}

static gearman_return_t on_status(gearman_task_st *task)
{
    numerator = gearman_task_numerator(task);
    denominator = gearman_task_denominator(task);
    return GEARMAN_SUCCESS;
}

static void submit(gearman_client_st *client, const char *function, const char *unique)
{
    static char payload[2 << 20];
    size_t size = fread(payload, 1, sizeof payload, stdin);
    gearman_return_t ret;
    gearman_client_set_complete_fn(client, on_complete);
    gearman_client_set_exception_fn(client, on_exception);
    gearman_client_set_fail_fn(client, on_fail);
    gearman_client_set_data_fn(client, on_data);
    gearman_client_set_warning_fn(client, on_warning);
    gearman_client_set_status_fn(client, on_status);
    gearman_client_add_task(client, NULL, NULL, function, unique, payload, size, &ret);
    gearman_client_run_tasks(client);
    printf("{\"outcome\":\"%s\",\"result\":\"%s\",\"data\":[%s],\"warnings\":[%s],\"status\":[%d,%d]}\n", outcome,
           result ? result : "", data ? data : "", warnings ? warnings : "", numerator, denominator);
}

static void background(gearman_client_st *client, const char *function, const char *unique)
{
    char handle[GEARMAN_JOB_HANDLE_SIZE];
    bool known = true, running;
    if (gearman_client_do_background(client, function, unique, "x", 1, handle) != GEARMAN_SUCCESS) {
        printf("{\"outcome\":\"%s\"}\n", gearman_client_error(client));
        return;
    }
    printf("{\"outcome\":\"queued\",\"statuses\":[");
    for (int i = 0; known && i < 80; i++) {
        uint32_t of = 0, done = 0;
        gearman_client_job_status(client, handle, &known, &running, &done, &of);
        printf("%s[%d,%d,%u,%u]", i ? "," : "", known, running, done, of);
        usleep(100000);
    }
    printf("]}\n");
}

static gearman_return_t echo(gearman_job_st *job, void *context)
{
    (void)context;
    return gearman_job_send_complete(job, gearman_job_workload(job), gearman_job_workload_size(job));
}

static gearman_return_t unique_of(gearman_job_st *job, void *context)
{
    (void)context;
    return gearman_job_send_complete(job, gearman_job_unique(job), strlen(gearman_job_unique(job)));
}

static gearman_return_t fail(gearman_job_st *job, void *context)
{
    (void)context;
    return gearman_job_send_fail(job);
}

static gearman_return_t raise_one(gearman_job_st *job, void *context)
{
    (void)context;
    return gearman_job_send_exception(job, "raised by the peer", 18);
}

static gearman_return_t progress(gearman_job_st *job, void *context)
{
    (void)context;
    gearman_job_send_status(job, 1, 2);
    gearman_job_send_warning(job, "careful", 7);
    gearman_job_send_data(job, "part \0\xff", 7);
    gearman_job_send_status(job, 2, 2);
    return gearman_job_send_complete(job, "end", 3);
}

static gearman_return_t slow(gearman_job_st *job, void *context)
{
    (void)context;
    gearman_job_send_status(job, 1, 2);
    usleep(700000);
    return gearman_job_send_complete(job, "", 0);
}

static void work(const char *host, int port, const char *prefix)
{
    static const struct {
        const char *name;
        gearman_return_t (*function)(gearman_job_st *, void *);
    } functions[] = {{"echo", echo}, {"gr\xc3\xb6\xc3\x9f" "e", echo}, {"unique", unique_of}, {"fail", fail},
                     {"raise", raise_one}, {"progress", progress}, {"slow", slow}};
    gearman_worker_st *worker = gearman_worker_create(NULL);
    gearman_worker_add_server(worker, host, port);
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        char name[256];
        int length = snprintf(name, sizeof name, "%s-%s", prefix, functions[i].name);
        gearman_worker_define_function(worker, name, length, gearman_function_create(functions[i].function), 0, NULL);
    }
    for (;;)
        gearman_worker_work(worker);
}

int main(int count, char **arguments)
{
    const char *role = arguments[1], *host = arguments[2];
    int port = atoi(arguments[3]);
    gearman_client_st *client = gearman_client_create(NULL);
    if (count < 5)
        return 2;
    if (strcmp(role, "worker") == 0)
        work(host, port, arguments[4]);
    gearman_client_add_server(client, host, port);
    gearman_client_set_timeout(client, 20000);
    (strcmp(role, "client") == 0 ? submit : background)(client, arguments[4], arguments[5]);
    fflush(stdout);
    _exit(0);
}
