#!/bin/sh
# Outlives its owner by a moment: when the owner's end of stdin closes, for whatever reason, every
# process group still on the list is killed. Reads lines "+GROUP" and "-GROUP".
set -u
groups=" "
while read -r line; do
    group=${line#?}
    case $line in
        +*) groups="$groups$group " ;;
        -*) groups="${groups%% "$group" *} ${groups#* "$group" }" ;;
    esac
done
for group in $groups; do
    kill -s KILL -- "-$group" 2>/dev/null
done
exit 0
