# SPDX-License-Identifier: MIT
# Completion of suture for fish. What there is to complete is asked of the command itself, so it is
# what it knows.

function __suture_command
    set -l words (commandline -opc)
    for word in $words[2..-1]
        if string match -qr '^[a-z]' -- $word
            echo $word
            return 0
        end
    end
    return 1
end

function __suture_commands
    set -l words (commandline -opc)
    $words[1] --help 2>/dev/null | awk '/^Commands:/ { on = 1; next } /^$/ { on = 0 }
        on { name = $1; $1 = ""; print name "\t" substr($0, 2) }'
end

function __suture_options
    set -l words (commandline -opc)
    $words[1] help (__suture_command) 2>/dev/null | awk '/^  +-/ {
        for (i = 1; i <= NF && $i ~ /^-/; i++) { sub(/,$/, "", $i); print $i } }'
end

function __suture_pid
    set -l words (commandline -opc)
    for i in (seq 2 (count $words))
        if test "$words[$i]" = -p; and test $i -lt (count $words)
            echo $words[(math $i + 1)]
            return 0
        end
    end
    return 1
end

# Processes that could be worked on: our own, or all that have a program.
function __suture_pids
    for folder in (string match -r '^/proc/[0-9]+$' /proc/*)
        if test -e $folder/exe; and test (id -u) = 0 -o -O $folder
            printf '%s\t%s\n' (string replace /proc/ '' $folder) (cat $folder/comm 2>/dev/null)
        end
    end
end

function __suture_specs
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l pid (__suture_pid)
    awk '$2 ~ /x/ && $6 ~ /^\// && NF == 6 { n = split($6, part, "/"); print part[n] ":" }' \
        /proc/$pid/maps 2>/dev/null | sort -u
    if test (string length -- "$current") -gt 1; and not string match -qr '[*?[]' -- $current
        timeout 5 $words[1] list -p $pid "$current*" 2>/dev/null |
            awk -v with="$current" '$2 ~ /^0x/ && $4 != "refused" {
                sub(/:$/, "", $5); print (with ~ /:/ ? $1 ":" : "") $5 }' | sort -u
    end
end

function __suture_after
    set -l words (commandline -opc)
    contains -- $words[-1] $argv
end

function __suture_takes_value
    __suture_after -p --for --interval --max-pause --kinds --pages --log --specs-from
end

complete -c suture -f
complete -c suture -n '__suture_after -p' -a '(__suture_pids)'
complete -c suture -n '__suture_after --for --interval' -a '1s 10s 1m 1h'
complete -c suture -n '__suture_after --max-pause' -a '500us 1ms 10ms 100ms'
complete -c suture -n '__suture_after --kinds' -a 'pun window uprobe pun,window pun,window,uprobe'
complete -c suture -n '__suture_after --log --specs-from' -F
complete -c suture -n 'not __suture_takes_value; and not __suture_command >/dev/null' \
    -a '(__suture_commands) --help --version'
complete -c suture -n 'not __suture_takes_value; and __suture_command >/dev/null' -a '(__suture_options)'
complete -c suture -n 'not __suture_takes_value; and contains -- help (__suture_command)' \
    -a '(__suture_commands)'
complete -c suture -n 'not __suture_takes_value; and __suture_pid >/dev/null; and contains -- (__suture_command) count list explain' \
    -a '(__suture_specs)'
