<?php
// The kind of worker that the article's Supervisor block runs: it logs to both channels.
$worker = new GearmanWorker();
$worker->addServer('127.0.0.1', 4730);
$worker->addFunction('log_lines', function (GearmanJob $job): string {
    // Lines of 1 KB, in turn to standard output and to standard error.
    [$name, $count] = explode(' ', $job->workload());
    for ($line = 0; $line < (int) $count; $line++) {
        fwrite($line % 2 ? STDERR : STDOUT, str_pad("$name-$line", 1023, '.') . "\n");
    }
    usleep(300000);
    return (string) getmypid();
});
while (true) {
    if (!@$worker->work() && $worker->returnCode() !== GEARMAN_SUCCESS) {
        sleep(1);
    }
}
