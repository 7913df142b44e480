# SPDX-License-Identifier: MIT
# Completion of suture and suture-check for bash. What there is to complete is asked of the commands
# themselves, so it is what they know.

# The options that a help text explains: -j, --jobs N
_suture_options() {
	"$@" 2>/dev/null | awk '/^  +-/ {
		for (i = 1; i <= NF && $i ~ /^-/; i++) { sub(/,$/, "", $i); print $i } }'
}

_suture_commands() {
	"$1" --help 2>/dev/null | awk '/^Commands:/ { on = 1; next } /^$/ { on = 0 } on { print $1 }'
}

# Processes that could be worked on: our own, or all that have a program.
_suture_pids() {
	local folder
	for folder in /proc/[0-9]*; do
		[[ $EUID = 0 || -O $folder ]] && [[ -e $folder/exe ]] && printf '%s\n' "${folder#/proc/}"
	done
}

# MODULE: of process $1
_suture_modules() {
	awk '$2 ~ /x/ && $6 ~ /^\// && NF == 6 { n = split($6, part, "/"); print part[n] ":" }' \
		"/proc/$1/maps" 2>/dev/null | sort -u
}

# Functions of process $2 that begin with $3, with the module if that is in it.
_suture_functions() {
	case $3 in *[*?[]*) return ;; esac
	timeout 5 "$1" list -p "$2" "$3*" 2>/dev/null |
		awk -v with="$3" '$2 ~ /^0x/ && $4 != "refused" {
			sub(/:$/, "", $5); print (with ~ /:/ ? $1 ":" : "") $5 }' | sort -u
}

_suture_reply() { # CURRENT CANDIDATES
	local cut
	mapfile -t COMPREPLY < <(compgen -W "$2" -- "$1")
	# Readline has split the word at a colon, and replaces only what is behind it.
	if [[ $1 == *:* && $COMP_WORDBREAKS == *:* ]]; then
		cut=${1%"${1##*:}"}
		COMPREPLY=("${COMPREPLY[@]#"$cut"}")
	fi
}

_suture() {
	local line=${COMP_LINE:0:COMP_POINT} command= pid= current previous i
	local -a words
	read -ra words <<<"$line"
	[[ $line == *[[:space:]] ]] && words+=('')
	current=${words[-1]} previous=${words[-2]}
	for ((i = 1; i < ${#words[@]} - 1; i++)); do
		case ${words[i]} in
		-p) pid=${words[i + 1]} ;;
		-p?*) pid=${words[i]#-p} ;;
		[a-z]*) [[ $command ]] || command=${words[i]} ;;
		esac
	done
	case $previous in
	-p) _suture_reply "$current" "$(_suture_pids)"; return ;;
	--for | --interval) _suture_reply "$current" '1s 10s 1m 1h'; return ;;
	--max-pause) _suture_reply "$current" '500us 1ms 10ms 100ms'; return ;;
	--kinds) _suture_reply "$current" 'pun window uprobe pun,window pun,window,uprobe'; return ;;
	--pages) return ;;
	--log | --specs-from) mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
	esac
	if [[ ! $command ]]; then
		_suture_reply "$current" "$(_suture_commands "${words[0]}") --help --version"
	elif [[ $current == -* ]]; then
		_suture_reply "$current" "$(_suture_options "${words[0]}" help "$command")"
	elif [[ $command = help ]]; then
		_suture_reply "$current" "$(_suture_commands "${words[0]}")"
	elif [[ ! $pid ]]; then
		_suture_reply "$current" -p
	elif [[ $command = count || $command = list || $command = explain ]]; then
		i=$(_suture_modules "$pid")
		((${#current} > 1)) && i+=" $(_suture_functions "${words[0]}" "$pid" "$current")"
		_suture_reply "$current" "$i"
		[[ ${COMPREPLY[0]} == *: ]] && compopt -o nospace 2>/dev/null
	fi
	return 0
}

# The machines, scenarios or mutants that suture-check knows.
_suture_check_names() {
	"$1" --list 2>/dev/null | awk -v kind="$2" '/^[A-Za-z]/ { on = tolower($1) == kind "s" }
		on && /^  [a-z0-9]/ { print $1 }'
}

_suture_check() {
	local line=${COMP_LINE:0:COMP_POINT} current previous done_=
	local -a words
	read -ra words <<<"$line"
	[[ $line == *[[:space:]] ]] && words+=('')
	current=${words[-1]} previous=${words[-2]}
	case $previous in
	--machine | --scenario | --mutant)
		[[ $current == *,* ]] && done_=${current%,*},
		_suture_reply "$current" \
			"$(printf "$done_%s\n" all $(_suture_check_names "${words[0]}" "${previous#--}"))"
		;;
	--svg) mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
	-j | --jobs) ;;
	*) _suture_reply "$current" "$(_suture_options "${words[0]}" --help)" ;;
	esac
	return 0
}

complete -F _suture suture
complete -F _suture_check suture-check
