# SPDX-License-Identifier: MIT
# Completion of suture-check for fish.

function __suture_check_names
    set -l words (commandline -opc)
    set -l kind (string replace -- -- '' $words[-1])
    set -l before (string replace -r '[^,]*$' '' -- (commandline -ct))
    echo $before"all"
    $words[1] --list 2>/dev/null | awk -v kind=$kind -v before=$before '
        /^[A-Za-z]/ { on = tolower($1) == kind "s" } on && /^  [a-z0-9]/ { print before $1 }'
end

function __suture_check_options
    set -l words (commandline -opc)
    $words[1] --help 2>/dev/null | awk '/^  +-/ {
        for (i = 1; i <= NF && $i ~ /^-/; i++) { sub(/,$/, "", $i); print $i } }'
end

function __suture_check_after
    set -l words (commandline -opc)
    contains -- $words[-1] $argv
end

complete -c suture-check -f
complete -c suture-check -n '__suture_check_after --machine --scenario --mutant' -a '(__suture_check_names)'
complete -c suture-check -n '__suture_check_after --svg' -F
complete -c suture-check -n 'not __suture_check_after --machine --scenario --mutant --svg --jobs -j' \
    -a '(__suture_check_options)'
