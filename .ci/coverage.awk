# The report of .ci/coverage, from what is explained (first file) and lcov's lines (second file).
# A test module at the end of a file is no part of the engine.

function trimmed(text) {
    gsub(/^[ \t]+|[ \t]+$/, "", text)
    return text
}

# Reads a source file: its lines, and where its tests begin.
function source(path,    n, text) {
    delete text_of
    tests_from = 0
    n = 0
    while ((getline text < path) > 0) {
        text_of[++n] = text
        if (text ~ /^mod tests \{/) {
            tests_from = n
        }
    }
    close(path)
}

# tests/unreached.txt: `file: line of code` and its reason behind ` -- `; a file alone says which are decoders.
FNR == NR {
    if ($0 ~ /^decoder /) {
        is_decoder[$2] = 1
    } else if ($0 !~ /^#/ && $0 != "") {
        split($0, half, " -- ")
        if (half[2] == "") {
            print "tests/unreached.txt:" FNR ": there is no reason"
            failed = 1
        }
        explained[trimmed(half[1])] = FNR
    }
    next
}
/^SF:/ {
    file = substr($0, 4)
    sub(root, "", file)
    split(file, part, "/")
    room = file ~ /^src\/[^\/]*$/ ? "src" : part[2]
    source(file)
}
/^DA:/ {
    split(substr($0, 4), pair, ",")
    if (tests_from && tests_from <= pair[1]) {
        next
    }
    seen[room]++
    all++
    if (pair[2] != 0) {
        hit[room]++
        all_hit++
        next
    }
    code = trimmed(text_of[pair[1]])
    print file ":" pair[1] ": " code > lines
    if (file in is_decoder) {
        key = file ": " code
        if (key in explained) {
            used[key] = 1
        } else {
            print "unexplained " file ":" pair[1] ": " code
            failed = 1
        }
    }
}
END {
    for (key in explained) {
        if (!(key in used)) {
            print "tests/unreached.txt:" explained[key] ": reached, or not there any more"
            failed = 1
        }
    }
    print ""
    print "| room | lines | reached |"
    print "|---|---:|---:|"
    for (room in seen) {
        printf "| %s | %d | %.1f %% |\n", room, seen[room], 100 * hit[room] / seen[room] | "sort"
    }
    close("sort")
    printf "| all | %d | %.1f %% |\n", all, 100 * all_hit / all
    if (100 * all_hit / all < floor) {
        print "that is below " floor " %"
        failed = 1
    }
    exit failed
}
