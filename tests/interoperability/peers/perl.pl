#!/usr/bin/perl
# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Debian's libgearman-client-perl as a peer; table.py describes what a peer does.

use strict;
use warnings;
use utf8;
use Encode qw(encode_utf8);
use Gearman::Client;
use Gearman::Task;
use Gearman::Worker;
use JSON::PP;
use MIME::Base64;
use Time::HiRes qw(sleep);

my ($role, $host, $port, $name, $unique) = @ARGV;

sub work {
    my $worker = Gearman::Worker->new(job_servers => ["$host:$port"]);
    my %functions = (
        'echo'    => sub { $_[0]->arg },
        'größe'   => sub { $_[0]->arg },
        'fail'    => sub { undef },
        'raise'   => sub { die "raised by the peer\n" },
        'slow'    => sub { $_[0]->set_status(1, 2); sleep 0.7; 'over' },
        'progress' => sub {
            my ($job) = @_;
            $job->set_status(1, 2);
            $worker->send_work_warning($job, 'careful');
            $worker->send_work_data($job, "part \0\xff");
            $job->set_status(2, 2);
            return 'end';
        },
    );
    $worker->register_function(encode_utf8("$name-$_"), $functions{$_}) for keys %functions;
    $worker->work while 1;
}

my %answer = (outcome => 'no answer', result => '', data => [], warnings => [], status => undef);

sub plain { my ($value) = @_; return encode_base64(ref $value ? $$value : $value, '') }

sub submit {
    binmode STDIN;
    my $payload = do { local $/; <STDIN> };
    my $client = Gearman::Client->new(job_servers => ["$host:$port"]);
    my $task = Gearman::Task->new($name, \$payload, {
        uniq         => $unique,
        on_complete  => sub { @answer{qw(outcome result)} = ('done', plain($_[0])) },
        on_fail      => sub { $answer{outcome} = 'failed' if $answer{outcome} ne 'exception' },
        on_exception => sub { @answer{qw(outcome result)} = ('exception', plain($_[0])) },
        on_data      => sub { push @{$answer{data}}, plain($_[0]) },
        on_warning   => sub { push @{$answer{warnings}}, plain($_[0]) },
        on_status    => sub { $answer{status} = [$_[0] + 0, $_[1] + 0] },
    });
    my $set = $client->new_task_set;
    $set->add_task($task);
    $set->wait(timeout => 20);
}

sub background {
    my $client = Gearman::Client->new(job_servers => ["$host:$port"]);
    my $payload = 'x';
    my $handle = $client->dispatch_background($name, \$payload, {uniq => $unique});
    $answer{outcome} = $handle ? 'queued' : 'refused';
    for (1 .. 80) {
        my $status = $client->get_status($handle) or last;
        my $progress = $status->progress || [0, 0];
        push @{$answer{statuses}}, [map { $_ ? $_ + 0 : 0 } $status->known, $status->running, @$progress];
        last unless $status->known;
        sleep 0.1;
    }
}

$role eq 'worker' ? work() : $role eq 'client' ? submit() : background();
print encode_json(\%answer), "\n";
