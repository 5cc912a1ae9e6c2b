# imgsearch completion for fish, generated from the program by: imgsearch --show-completion fish

# The command that was typed, of one or more words; options before it are passed over.
function __imgsearch_verb
    set -l words (commandline -opc)
    set -e words[1]
    set -l verb
    for word in $words
        if not string match -q -- '-*' $word
            set -a verb $word
            contains -- "$verb" 'roots'; or break
        end
    end
    echo "$verb"
end

function __imgsearch_has
    set -l verb (__imgsearch_verb)
    test "$verb" = "$argv[1]"
end

# What stands before the = of --option=DIR is no part of the folder's name.
function __imgsearch_folders
    __fish_complete_directories (commandline -ct | string replace -r -- '^--[a-z-]+=' '')
end

complete -c imgsearch -f

complete -c imgsearch -n '__imgsearch_has ""' -s V -l version -d 'Print the version'
complete -c imgsearch -n '__imgsearch_has ""' -l show-completion -r -f -a 'bash zsh fish' -d 'Print the completion script for this shell'
complete -c imgsearch -n '__imgsearch_has ""' -s h -l help -d 'Show this message and exit'
complete -c imgsearch -n '__imgsearch_has ""' -a index -d 'Make photos searchable: walk folders, and embed what is new or changed'
complete -c imgsearch -n '__imgsearch_has ""' -a query -d 'Find photos by words, by a picture, or by a picture plus a change'
complete -c imgsearch -n '__imgsearch_has ""' -a status -d 'Show what the index holds: folders, counts, model, size, and how many vectors are in HNSW graphs'
complete -c imgsearch -n '__imgsearch_has ""' -a failures -d 'List the files that could not be indexed, each with the stage that failed and the reason'
complete -c imgsearch -n '__imgsearch_has ""' -a prune -d 'Forget photos that are gone, or are passed over now (--exclude, ignore files), and give their room back'
complete -c imgsearch -n '__imgsearch_has ""' -a check -d 'Check that the index is whole: catalogue, vectors, graphs, and the files they lie in'
complete -c imgsearch -n '__imgsearch_has ""' -a models -d 'List the models that have a short name: what they cost, their licence, and which are on this machine'
complete -c imgsearch -n '__imgsearch_has ""' -a init -d 'Make a portable index: DIR/.imgsearch/, used by every command run in DIR or below'
complete -c imgsearch -n '__imgsearch_has ""' -a roots -d 'Show the folders that the index looks after, or say where they have moved'

complete -c imgsearch -n '__imgsearch_has "index"' -s m -l model -r -f -a '\'auto	the model the index has, else the best that can be had\' \'builtin	no download, Apache-2.0, English\' \'lite	605 MB, MIT, English\' \'fast	1,507 MB, Apache-2.0, multilingual\' \'balanced	1,501 MB, Apache-2.0, multilingual\' \'best	2,685 MB, Apache-2.0, English\' \'best-multilingual	4,544 MB, Apache-2.0, multilingual\' \'max	9,677 MB, Apache-2.0, English\' \'multilingual	4,543 MB, Apache-2.0, multilingual\' \'multilingual-lite	1,464 MB, MIT, multilingual\' \'mobileclip2-s0	299 MB, Apple AMLR (research only), English\' \'mobileclip2-s2	397 MB, Apple AMLR (research only), English\' \'mobileclip2-b	599 MB, Apple AMLR (research only), English\' \'mobileclip2-s4	1,782 MB, Apple AMLR (research only), English\' \'dfn-h	3,944 MB, Apple (research only), English\' \'metaclip2-h	7,435 MB, CC BY-NC 4.0, multilingual\'' -d 'builtin, an alias (`imgsearch models`), an open_clip ARCH/TAG, hf-hub:ORG/REPO, local-dir:DIR, or auto'
complete -c imgsearch -n '__imgsearch_has "index"' -l weights -r -F -d 'Weights for an open_clip architecture given as --model'
complete -c imgsearch -n '__imgsearch_has "index"' -l preprocess-from -r -f -d 'For a weights FILE: preprocess as this tag\'s does'
complete -c imgsearch -n '__imgsearch_has "index"' -l exclude -r -f -d 'Pass over what matches, as in .gitignore; may be repeated'
complete -c imgsearch -n '__imgsearch_has "index"' -l hidden -d 'Also files and folders whose name starts with a dot; remembered as --exclude is'
complete -c imgsearch -n '__imgsearch_has "index"' -l decode -r -f -a 'fast exact' -d 'fast reads large JPEGs at a reduced size; exact reads every pixel'
complete -c imgsearch -n '__imgsearch_has "index"' -s b -l batch-size -r -f -d 'Pictures embedded together'
complete -c imgsearch -n '__imgsearch_has "index"' -l workers -r -f -d 'Files decoded at once'
complete -c imgsearch -n '__imgsearch_has "index"' -l time-limit -r -f -d 'Give a file up after so many seconds of decoding'
complete -c imgsearch -n '__imgsearch_has "index"' -l device -r -f -a 'auto cuda mps cpu' -d 'Where the model runs'
complete -c imgsearch -n '__imgsearch_has "index"' -l precision -r -f -a 'auto fp16 bf16 fp32' -d 'Number format of the model; auto chooses by device'
complete -c imgsearch -n '__imgsearch_has "index"' -l offline -d 'Fetch nothing: use only models that are on this machine'
complete -c imgsearch -n '__imgsearch_has "index"' -l wait -d 'If another process is writing to the index, go on when it has finished'
complete -c imgsearch -n '__imgsearch_has "index"' -l dry-run -d 'Say what would be done, and do nothing'
complete -c imgsearch -n '__imgsearch_has "index"' -l json -d 'JSON Lines on stdout, one object each'
complete -c imgsearch -n '__imgsearch_has "index"' -s q -l quiet -d 'Say nothing but errors'
complete -c imgsearch -n '__imgsearch_has "index"' -s v -l verbose -d 'Name every photo'
complete -c imgsearch -n '__imgsearch_has "index"' -l index -r -f -a '(__imgsearch_folders)' -d 'The index to use'
complete -c imgsearch -n '__imgsearch_has "index"' -s h -l help -d 'Show this message and exit'
complete -c imgsearch -n '__imgsearch_has "index"' -F

complete -c imgsearch -n '__imgsearch_has "query"' -s i -l image -r -F -d 'A picture to search by; may be repeated'
complete -c imgsearch -n '__imgsearch_has "query"' -s t -l text -r -f -d 'Words to search by, taken as they are'
complete -c imgsearch -n '__imgsearch_has "query"' -s n -l limit -r -f -d 'At most so many photos'
complete -c imgsearch -n '__imgsearch_has "query"' -l min-score -r -f -d 'Only photos with at least this score'
complete -c imgsearch -n '__imgsearch_has "query"' -l under -r -f -a '(__imgsearch_folders)' -d 'Only photos in this folder; may be repeated'
complete -c imgsearch -n '__imgsearch_has "query"' -l modality -r -f -a 'image text any' -d 'Search the pictures, the texts that photos carry, or both'
complete -c imgsearch -n '__imgsearch_has "query"' -l compose -r -f -a 'and lerp slerp add product weicom' -d 'How a picture and words go together: and, lerp, slerp, add, product or weicom'
complete -c imgsearch -n '__imgsearch_has "query"' -s w -l weight -r -f -d 'Of the words: 0 is the picture alone, 1 the words alone'
complete -c imgsearch -n '__imgsearch_has "query"' -l exact -d 'Scan every vector, or use what HNSW graphs there are'
complete -c imgsearch -n '__imgsearch_has "query"' -l ann -d 'Scan every vector, or use what HNSW graphs there are'
complete -c imgsearch -n '__imgsearch_has "query"' -l json -d 'JSON Lines on stdout, one object each'
complete -c imgsearch -n '__imgsearch_has "query"' -s l -l paths -d 'Print bare paths'
complete -c imgsearch -n '__imgsearch_has "query"' -s 0 -l print0 -d 'Print bare paths, each ended by NUL'
complete -c imgsearch -n '__imgsearch_has "query"' -l include-reference -d 'Do not leave out the picture asked with, nor copies of it'
complete -c imgsearch -n '__imgsearch_has "query"' -l include-offline -d 'Also photos on disks that are not there now'
complete -c imgsearch -n '__imgsearch_has "query"' -l no-history -d 'Neither use nor keep the vectors of texts that were asked before'
complete -c imgsearch -n '__imgsearch_has "query"' -l device -r -f -a 'auto cuda mps cpu' -d 'Where the model runs'
complete -c imgsearch -n '__imgsearch_has "query"' -l offline -d 'Fetch nothing: use only models that are on this machine'
complete -c imgsearch -n '__imgsearch_has "query"' -l index -r -f -a '(__imgsearch_folders)' -d 'The index to use'
complete -c imgsearch -n '__imgsearch_has "query"' -s h -l help -d 'Show this message and exit'
complete -c imgsearch -n '__imgsearch_has "query"' -F

complete -c imgsearch -n '__imgsearch_has "status"' -l json -d 'JSON Lines on stdout, one object each'
complete -c imgsearch -n '__imgsearch_has "status"' -l index -r -f -a '(__imgsearch_folders)' -d 'The index to use'
complete -c imgsearch -n '__imgsearch_has "status"' -s h -l help -d 'Show this message and exit'

complete -c imgsearch -n '__imgsearch_has "failures"' -l json -d 'JSON Lines on stdout, one object each'
complete -c imgsearch -n '__imgsearch_has "failures"' -l index -r -f -a '(__imgsearch_folders)' -d 'The index to use'
complete -c imgsearch -n '__imgsearch_has "failures"' -s h -l help -d 'Show this message and exit'

complete -c imgsearch -n '__imgsearch_has "prune"' -l offline -r -f -a '(__imgsearch_folders)' -d 'Also forget what is missing in this offline root; may be repeated'
complete -c imgsearch -n '__imgsearch_has "prune"' -l space -r -f -d 'Also remove the vectors of this model, complete or not: its name or id in `imgsearch status`; may be repeated'
complete -c imgsearch -n '__imgsearch_has "prune"' -l dry-run -d 'Say what would be forgotten, and do nothing'
complete -c imgsearch -n '__imgsearch_has "prune"' -l wait -d 'If another process is writing to the index, go on when it has finished'
complete -c imgsearch -n '__imgsearch_has "prune"' -l json -d 'JSON Lines on stdout, one object each'
complete -c imgsearch -n '__imgsearch_has "prune"' -l index -r -f -a '(__imgsearch_folders)' -d 'The index to use'
complete -c imgsearch -n '__imgsearch_has "prune"' -s h -l help -d 'Show this message and exit'

complete -c imgsearch -n '__imgsearch_has "check"' -l deep -d 'Also read and embed a sample of the photos again, and compare'
complete -c imgsearch -n '__imgsearch_has "check"' -l sample -r -f -d 'How many photos --deep reads; 0: all'
complete -c imgsearch -n '__imgsearch_has "check"' -l repair -d 'Mend what is found; what is lost is embedded again'
complete -c imgsearch -n '__imgsearch_has "check"' -l device -r -f -a 'auto cuda mps cpu' -d 'Where the model runs'
complete -c imgsearch -n '__imgsearch_has "check"' -l offline -d 'Fetch nothing: use only models that are on this machine'
complete -c imgsearch -n '__imgsearch_has "check"' -l wait -d 'If another process is writing to the index, go on when it has finished'
complete -c imgsearch -n '__imgsearch_has "check"' -l json -d 'JSON Lines on stdout, one object each'
complete -c imgsearch -n '__imgsearch_has "check"' -l index -r -f -a '(__imgsearch_folders)' -d 'The index to use'
complete -c imgsearch -n '__imgsearch_has "check"' -s h -l help -d 'Show this message and exit'

complete -c imgsearch -n '__imgsearch_has "models"' -l json -d 'JSON Lines on stdout, one object each'
complete -c imgsearch -n '__imgsearch_has "models"' -s h -l help -d 'Show this message and exit'

complete -c imgsearch -n '__imgsearch_has "init"' -s h -l help -d 'Show this message and exit'
complete -c imgsearch -n '__imgsearch_has "init"' -f -a '(__imgsearch_folders)'

complete -c imgsearch -n '__imgsearch_has "roots"' -s h -l help -d 'Show this message and exit'
complete -c imgsearch -n '__imgsearch_has "roots"' -a list -d 'List the roots'
complete -c imgsearch -n '__imgsearch_has "roots"' -a move -d 'Say that the photos of OLD now lie in NEW'

complete -c imgsearch -n '__imgsearch_has "roots list"' -l json -d 'JSON Lines on stdout, one object each'
complete -c imgsearch -n '__imgsearch_has "roots list"' -l index -r -f -a '(__imgsearch_folders)' -d 'The index to use'
complete -c imgsearch -n '__imgsearch_has "roots list"' -s h -l help -d 'Show this message and exit'

complete -c imgsearch -n '__imgsearch_has "roots move"' -l wait -d 'If another process is writing to the index, go on when it has finished'
complete -c imgsearch -n '__imgsearch_has "roots move"' -l json -d 'JSON Lines on stdout, one object each'
complete -c imgsearch -n '__imgsearch_has "roots move"' -l index -r -f -a '(__imgsearch_folders)' -d 'The index to use'
complete -c imgsearch -n '__imgsearch_has "roots move"' -s h -l help -d 'Show this message and exit'
complete -c imgsearch -n '__imgsearch_has "roots move"' -f -a '(__imgsearch_folders)'
