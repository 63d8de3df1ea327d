#!/bin/sh
# Asks the server that runs this push, over two pipes it handed down, and prints what it answers to the pusher.
# Installed under the names of the hooks it serves; plain sh, because a Python start would cost more than the push.
{ echo "${0##*/}" && cat && echo .; } >"/dev/fd/$DSTACK_HOOK_ASK" || exit 1
while IFS= read -r line; do
	case $line in
	ok) exit 0 ;;
	no) exit 1 ;;
	*) printf '%s\n' "${line#+}" ;;
	esac
done <"/dev/fd/$DSTACK_HOOK_ANSWER"
exit 1
