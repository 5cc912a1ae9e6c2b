# imgsearch completion for fish, generated from the program by: imgsearch --show-completion fish

# The command that was typed, of one or more words; options before it are skipped.
function __imgsearch_verb
    set -l words (commandline -opc)
    set -e words[1]
    set -l verb
    for word in $words
        if not string match -q -- '-*' $word
            set -a verb $word
            contains -- "$verb" 'config' 'models' 'roots' 'notes'; or break
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

function __imgsearch_names
    set -l words (commandline -opc)
    set -l index ''
    for i in (seq (count $words))
        if test "$words[$i]" = --index; and set -q words[(math $i + 1)]
            set index $words[(math $i + 1)]
        else if string match -q -- '--index=*' $words[$i]
            set index (string replace -- --index= '' $words[$i])
        end
    end
    set -l typed (commandline -ct | string replace -r -- '^--[a-z-]+=' '' | string unescape)
    imgsearch --complete $argv[1] "$typed" $index 2>/dev/null </dev/null
end

complete -c imgsearch -f

complete -c imgsearch -n '__imgsearch_has ""' -s V -l version -d 'Print the version'
complete -c imgsearch -n '__imgsearch_has ""' -l show-completion -r -f -a 'bash zsh fish' -d 'Print the completion script for a shell'
complete -c imgsearch -n '__imgsearch_has ""' -l show-manual -d 'Print the manual page in roff'
complete -c imgsearch -n '__imgsearch_has ""' -s h -d 'Show the most common options'
complete -c imgsearch -n '__imgsearch_has ""' -l help -d 'Show all options'
complete -c imgsearch -n '__imgsearch_has ""' -a index -d 'Make photos searchable: walk folders, and embed what is new or changed'
complete -c imgsearch -n '__imgsearch_has ""' -a query -d 'Find photos by words, by a picture, or by a picture plus a change'
complete -c imgsearch -n '__imgsearch_has ""' -a similar -d 'Find photos like a picture'
complete -c imgsearch -n '__imgsearch_has ""' -a dupes -d 'Find duplicate photos: the same file, or the same picture resized, re-encoded or rotated'
complete -c imgsearch -n '__imgsearch_has ""' -a watch -d 'Index folders, and keep the index up to date as files change'
complete -c imgsearch -n '__imgsearch_has ""' -a serve -d 'Open a gallery of your photos in the browser, and keep the index and model in memory for fast queries'
complete -c imgsearch -n '__imgsearch_has ""' -a status -d 'Show what the index holds: folders, counts, model, size, and how many vectors are in HNSW graphs'
complete -c imgsearch -n '__imgsearch_has ""' -a failures -d 'List the files that could not be indexed, with the stage that failed and the reason'
complete -c imgsearch -n '__imgsearch_has ""' -a prune -d 'Remove deleted and excluded photos from the index, and free their space'
complete -c imgsearch -n '__imgsearch_has ""' -a check -d 'Check the index: catalogue, vectors, graphs, and the files that hold them'
complete -c imgsearch -n '__imgsearch_has ""' -a doctor -d 'Check that everything imgsearch needs works on this machine, and show how to fix what does not'
complete -c imgsearch -n '__imgsearch_has ""' -a config -d 'Show and change the default values of options, which are kept in a TOML file'
complete -c imgsearch -n '__imgsearch_has ""' -a models -d 'List the models that have an alias, or move a model to a machine without torch'
complete -c imgsearch -n '__imgsearch_has ""' -a init -d 'Create a portable index: DIR/.imgsearch/, used by every command that runs in DIR or below'
complete -c imgsearch -n '__imgsearch_has ""' -a roots -d 'List the indexed folders, or tell the index where they have moved'
complete -c imgsearch -n '__imgsearch_has ""' -a notes -d 'Add your own notes to photos, and search them'
complete -c imgsearch -n '__imgsearch_has ""' -a export -d 'Write photos with their metadata, texts and vectors to a file'
complete -c imgsearch -n '__imgsearch_has ""' -a import -d 'Import vectors and notes from a file that `imgsearch export` wrote'
complete -c imgsearch -n '__imgsearch_has ""' -a calibrate -d 'Recompute the statistics of the collection that ranking uses'
complete -c imgsearch -n '__imgsearch_has ""' -a eval -d 'Measure search quality with published benchmarks or your own queries'

complete -c imgsearch -n '__imgsearch_has "index"' -s m -l model -r -f -a '\'auto	the model of the index, else the best available\' \'builtin	no download, Apache-2.0, English\' \'lite	605 MB, MIT, English\' \'fast	1,507 MB, Apache-2.0, multilingual\' \'balanced	1,501 MB, Apache-2.0, multilingual\' \'best	2,685 MB, Apache-2.0, English\' \'best-multilingual	4,544 MB, Apache-2.0, multilingual\' \'max	9,677 MB, Apache-2.0, English\' \'multilingual	4,543 MB, Apache-2.0, multilingual\' \'multilingual-lite	1,464 MB, MIT, multilingual\' \'mobileclip2-s0	299 MB, Apple AMLR (research only), English\' \'mobileclip2-s2	397 MB, Apple AMLR (research only), English\' \'mobileclip2-b	599 MB, Apple AMLR (research only), English\' \'mobileclip2-s4	1,782 MB, Apple AMLR (research only), English\' \'dfn-h	3,944 MB, Apple (research only), English\' \'metaclip2-h	7,435 MB, CC BY-NC 4.0, multilingual\'' -d 'builtin, an alias (see `imgsearch models`), an open_clip ARCH/TAG, hf-hub:ORG/REPO, local-dir:DIR, or auto'
complete -c imgsearch -n '__imgsearch_has "index"' -l weights -r -F -d 'Weights for the open_clip architecture given by --model'
complete -c imgsearch -n '__imgsearch_has "index"' -l preprocess-from -r -f -d 'With --weights FILE: use the preprocessing of this tag'
complete -c imgsearch -n '__imgsearch_has "index"' -l exclude -r -f -d 'Skip files and folders that match, as in .gitignore'
complete -c imgsearch -n '__imgsearch_has "index"' -l hidden -d 'Include files and folders whose name starts with a dot'
complete -c imgsearch -n '__imgsearch_has "index"' -l decode -r -f -a 'fast exact' -d 'fast reads large JPEGs at a reduced size; exact reads every pixel'
complete -c imgsearch -n '__imgsearch_has "index"' -s b -l batch-size -r -f -d 'Number of pictures to embed at once'
complete -c imgsearch -n '__imgsearch_has "index"' -l workers -r -f -d 'Number of decoding processes'
complete -c imgsearch -n '__imgsearch_has "index"' -l time-limit -r -f -d 'Give up on a file after this many seconds of decoding'
complete -c imgsearch -n '__imgsearch_has "index"' -l device -r -f -a 'auto cuda mps cpu' -d 'Where to run the model'
complete -c imgsearch -n '__imgsearch_has "index"' -l precision -r -f -a 'auto fp16 bf16 fp32' -d 'Floating-point format of the model; auto depends on the device'
complete -c imgsearch -n '__imgsearch_has "index"' -l offline -d 'Download nothing: use only models that are on this machine'
complete -c imgsearch -n '__imgsearch_has "index"' -l wait -d 'If another process is writing to the index, wait until it has finished'
complete -c imgsearch -n '__imgsearch_has "index"' -l dry-run -d 'Show what would be done, and change nothing'
complete -c imgsearch -n '__imgsearch_has "index"' -l json -d 'Print JSON Lines: one object per line'
complete -c imgsearch -n '__imgsearch_has "index"' -s q -l quiet -d 'Only print errors'
complete -c imgsearch -n '__imgsearch_has "index"' -s v -l verbose -d 'Print details on stderr, such as the model, the files and the time each step takes'
complete -c imgsearch -n '__imgsearch_has "index"' -l index -r -f -a '(__imgsearch_folders) (__imgsearch_names indexes)' -d 'The index to use'
complete -c imgsearch -n '__imgsearch_has "index"' -s h -d 'Show the most common options'
complete -c imgsearch -n '__imgsearch_has "index"' -l help -d 'Show all options'
complete -c imgsearch -n '__imgsearch_has "index"' -F

complete -c imgsearch -n '__imgsearch_has "query"' -s i -l image -r -F -d 'A picture to search by'
complete -c imgsearch -n '__imgsearch_has "query"' -s t -l text -r -f -d 'Words to search by, as literal text'
complete -c imgsearch -n '__imgsearch_has "query"' -l not -r -f -d 'Rank photos of this lower'
complete -c imgsearch -n '__imgsearch_has "query"' -l from -r -f -d 'With --to and a picture: what the picture shows now'
complete -c imgsearch -n '__imgsearch_has "query"' -l to -r -f -d 'With --from and a picture: what it should show instead'
complete -c imgsearch -n '__imgsearch_has "query"' -l more-like -r -F -d 'Prefer photos like this picture'
complete -c imgsearch -n '__imgsearch_has "query"' -l less-like -r -F -d 'Avoid photos like this picture'
complete -c imgsearch -n '__imgsearch_has "query"' -l any -r -F -d 'Words or a picture'
complete -c imgsearch -n '__imgsearch_has "query"' -l all -r -F -d 'Words or a picture'
complete -c imgsearch -n '__imgsearch_has "query"' -l natural -d 'Read dates (july 2023, last summer), places (in Porto) and file names in the words as filters, and `without` and `not` as a minus'
complete -c imgsearch -n '__imgsearch_has "query"' -l verbatim -d 'Treat the whole query as literal text'
complete -c imgsearch -n '__imgsearch_has "query"' -s n -l limit -r -f -d 'Maximum number of results'
complete -c imgsearch -n '__imgsearch_has "query"' -l min-score -r -f -d 'Only photos with at least this score'
complete -c imgsearch -n '__imgsearch_has "query"' -l min-z -r -f -d 'Only photos whose score is at least this many standard deviations above the mean'
complete -c imgsearch -n '__imgsearch_has "query"' -l auto-cut -d 'Stop at the first photo that is not relevant'
complete -c imgsearch -n '__imgsearch_has "query"' -l after -r -f -d 'Only photos taken on this day or later: 2024-07-03, 2024-07, 2024, 30d, yesterday'
complete -c imgsearch -n '__imgsearch_has "query"' -l before -r -f -d 'Only photos taken on this day or earlier'
complete -c imgsearch -n '__imgsearch_has "query"' -l month -r -f -d 'Only photos taken in this month, of any year or of one: july, 7, 2023-07'
complete -c imgsearch -n '__imgsearch_has "query"' -l on -r -f -d 'Only photos taken on this day, of any year or of one: 12-25, 2019-12-25'
complete -c imgsearch -n '__imgsearch_has "query"' -l camera -r -f -a '(__imgsearch_names cameras)' -d 'Only photos from a camera whose name contains this'
complete -c imgsearch -n '__imgsearch_has "query"' -l lens -r -f -a '(__imgsearch_names lenses)' -d 'Only photos taken with a lens whose name contains this'
complete -c imgsearch -n '__imgsearch_has "query"' -l near -r -f -d 'Only photos taken near this place: 48.85,2.35,5km'
complete -c imgsearch -n '__imgsearch_has "query"' -l place -r -f -a '(__imgsearch_names places)' -d 'Only photos of this town, region or country: Porto, or \'Porto, Portugal\''
complete -c imgsearch -n '__imgsearch_has "query"' -l rating -r -f -d 'Minimum rating: 4; an exact one: =3; or a range: 3-5'
complete -c imgsearch -n '__imgsearch_has "query"' -l keyword -r -f -a '(__imgsearch_names keywords)' -d 'Only photos with this keyword; if repeated, with all of them'
complete -c imgsearch -n '__imgsearch_has "query"' -l under -r -f -a '(__imgsearch_folders)' -d 'Only photos in this folder'
complete -c imgsearch -n '__imgsearch_has "query"' -l name -r -f -d 'Only files whose name matches, with or without its extension, ignoring case: IMG_3551, \'*beach*\''
complete -c imgsearch -n '__imgsearch_has "query"' -l glob -r -f -d 'Only files whose name matches, or whose path if the pattern has a slash'
complete -c imgsearch -n '__imgsearch_has "query"' -l ext -r -f -d 'Only files with this extension: jpg, or jpg,png'
complete -c imgsearch -n '__imgsearch_has "query"' -l min-size -r -f -d 'Minimum dimensions: 1600x1200 or 12MP; or minimum file size: 500kB'
complete -c imgsearch -n '__imgsearch_has "query"' -l orientation -r -f -a 'landscape portrait square' -d 'Only photos of this shape'
complete -c imgsearch -n '__imgsearch_has "query"' -l has -r -f -a 'gps caption date damage' -d 'Only photos that have this information'
complete -c imgsearch -n '__imgsearch_has "query"' -l root -r -f -a '(__imgsearch_names roots)' -d 'Only photos of this root: its path, or the last part of it'
complete -c imgsearch -n '__imgsearch_has "query"' -l include-reference -d 'Also show the pictures of the query, and copies of them'
complete -c imgsearch -n '__imgsearch_has "query"' -l include-offline -d 'Also show photos on disks that are not connected'
complete -c imgsearch -n '__imgsearch_has "query"' -l sort -r -f -a 'score date path size' -d 'Order of the results'
complete -c imgsearch -n '__imgsearch_has "query"' -s r -l reverse -d 'Reverse the order'
complete -c imgsearch -n '__imgsearch_has "query"' -l group -r -f -a 'duplicates burst day place town' -d 'Show only the best photo of each group: near copies, a burst, a day, a place (within 1 km), or a town'
complete -c imgsearch -n '__imgsearch_has "query"' -l diverse -r -f -d 'Prefer photos that differ from each other: from 0 (off) to 1 (as different as possible)'
complete -c imgsearch -n '__imgsearch_has "query"' -l modality -r -f -a 'image text any' -d 'Search the pictures, the texts of photos, or both'
complete -c imgsearch -n '__imgsearch_has "query"' -l compose -r -f -a 'scaled and lerp slerp add product weicom basic basic-style pdv' -d 'How to combine a picture and words: scaled, and, lerp, slerp, add, product, weicom, basic, basic-style, pdv'
complete -c imgsearch -n '__imgsearch_has "query"' -s w -l weight -r -f -d 'Weight of the words: 0 is the picture alone, 1 the words alone'
complete -c imgsearch -n '__imgsearch_has "query"' -l exact -d 'Scan every vector, or use HNSW graphs where they exist'
complete -c imgsearch -n '__imgsearch_has "query"' -l ann -d 'Scan every vector, or use HNSW graphs where they exist'
complete -c imgsearch -n '__imgsearch_has "query"' -l json -d 'Print JSON Lines: one object per line'
complete -c imgsearch -n '__imgsearch_has "query"' -s l -l paths -d 'Print only paths'
complete -c imgsearch -n '__imgsearch_has "query"' -s 0 -l print0 -d 'Print only paths, each followed by NUL, for `xargs -0`'
complete -c imgsearch -n '__imgsearch_has "query"' -l metadata -d 'Also print metadata of each photo: camera, place, keywords'
complete -c imgsearch -n '__imgsearch_has "query"' -l fields -r -f -d 'Print these fields: path,score,taken_at,camera ..'
complete -c imgsearch -n '__imgsearch_has "query"' -l html -r -F -d 'Also write the results as a self-contained web page; - is standard output'
complete -c imgsearch -n '__imgsearch_has "query"' -l open -d 'With --html: open the page in the browser'
complete -c imgsearch -n '__imgsearch_has "query"' -l preview -d 'Show the photos themselves in the terminal'
complete -c imgsearch -n '__imgsearch_has "query"' -l explain -d 'Print on stderr how the query was read and answered'
complete -c imgsearch -n '__imgsearch_has "query"' -l no-history -d 'Do not use or save the vectors of earlier queries'
complete -c imgsearch -n '__imgsearch_has "query"' -l no-server -d 'Answer in this process even if `imgsearch serve` is running'
complete -c imgsearch -n '__imgsearch_has "query"' -l device -r -f -a 'auto cuda mps cpu' -d 'Where to run the model'
complete -c imgsearch -n '__imgsearch_has "query"' -l offline -d 'Download nothing: use only models that are on this machine'
complete -c imgsearch -n '__imgsearch_has "query"' -s q -l quiet -d 'Only print errors'
complete -c imgsearch -n '__imgsearch_has "query"' -s v -l verbose -d 'Print details on stderr, such as the model, the files and the time each step takes'
complete -c imgsearch -n '__imgsearch_has "query"' -l index -r -f -a '(__imgsearch_folders) (__imgsearch_names indexes)' -d 'The index to use'
complete -c imgsearch -n '__imgsearch_has "query"' -s h -d 'Show the most common options'
complete -c imgsearch -n '__imgsearch_has "query"' -l help -d 'Show all options'
complete -c imgsearch -n '__imgsearch_has "query"' -F

complete -c imgsearch -n '__imgsearch_has "similar"' -s n -l limit -r -f -d 'Maximum number of results for each picture'
complete -c imgsearch -n '__imgsearch_has "similar"' -l min-score -r -f -d 'Only photos with at least this score'
complete -c imgsearch -n '__imgsearch_has "similar"' -l under -r -f -a '(__imgsearch_folders)' -d 'Only photos in this folder'
complete -c imgsearch -n '__imgsearch_has "similar"' -l group -r -f -a 'duplicates burst day place town' -d 'Show only the best photo of each group: near copies, a burst, a day, a place (within 1 km), or a town'
complete -c imgsearch -n '__imgsearch_has "similar"' -l exact -d 'Scan every vector, or use HNSW graphs where they exist'
complete -c imgsearch -n '__imgsearch_has "similar"' -l ann -d 'Scan every vector, or use HNSW graphs where they exist'
complete -c imgsearch -n '__imgsearch_has "similar"' -l json -d 'Print JSON Lines: one object per line'
complete -c imgsearch -n '__imgsearch_has "similar"' -s l -l paths -d 'Print only paths'
complete -c imgsearch -n '__imgsearch_has "similar"' -s 0 -l print0 -d 'Print only paths, each followed by NUL, for `xargs -0`'
complete -c imgsearch -n '__imgsearch_has "similar"' -l metadata -d 'Also print metadata of each photo: camera, place, keywords'
complete -c imgsearch -n '__imgsearch_has "similar"' -l include-reference -d 'Also show the picture itself'
complete -c imgsearch -n '__imgsearch_has "similar"' -l include-offline -d 'Also show photos on disks that are not connected'
complete -c imgsearch -n '__imgsearch_has "similar"' -l device -r -f -a 'auto cuda mps cpu' -d 'Where to run the model'
complete -c imgsearch -n '__imgsearch_has "similar"' -l offline -d 'Download nothing: use only models that are on this machine'
complete -c imgsearch -n '__imgsearch_has "similar"' -s q -l quiet -d 'Only print errors'
complete -c imgsearch -n '__imgsearch_has "similar"' -s v -l verbose -d 'Print details on stderr, such as the model, the files and the time each step takes'
complete -c imgsearch -n '__imgsearch_has "similar"' -l index -r -f -a '(__imgsearch_folders) (__imgsearch_names indexes)' -d 'The index to use'
complete -c imgsearch -n '__imgsearch_has "similar"' -s h -d 'Show the most common options'
complete -c imgsearch -n '__imgsearch_has "similar"' -l help -d 'Show all options'
complete -c imgsearch -n '__imgsearch_has "similar"' -F

complete -c imgsearch -n '__imgsearch_has "dupes"' -l keep -r -f -a 'largest oldest' -d 'Which photo of each group to keep: the one with most pixels, or the one taken first'
complete -c imgsearch -n '__imgsearch_has "dupes"' -l exact -d 'Only find files with the same bytes'
complete -c imgsearch -n '__imgsearch_has "dupes"' -l quick -d 'Only read photos whose vectors are similar'
complete -c imgsearch -n '__imgsearch_has "dupes"' -l under -r -f -a '(__imgsearch_folders)' -d 'Only photos in this folder'
complete -c imgsearch -n '__imgsearch_has "dupes"' -s l -l paths -l others -d 'Print only the duplicates, not the photos to keep, and no empty lines'
complete -c imgsearch -n '__imgsearch_has "dupes"' -l json -d 'Print JSON Lines: one object per line'
complete -c imgsearch -n '__imgsearch_has "dupes"' -s 0 -l print0 -d 'Like -l, but each path is followed by NUL, for `xargs -0`'
complete -c imgsearch -n '__imgsearch_has "dupes"' -l workers -r -f -d 'Number of processes that read photos'
complete -c imgsearch -n '__imgsearch_has "dupes"' -s q -l quiet -d 'Only print errors'
complete -c imgsearch -n '__imgsearch_has "dupes"' -s v -l verbose -d 'Print details on stderr, such as the model, the files and the time each step takes'
complete -c imgsearch -n '__imgsearch_has "dupes"' -l index -r -f -a '(__imgsearch_folders) (__imgsearch_names indexes)' -d 'The index to use'
complete -c imgsearch -n '__imgsearch_has "dupes"' -s h -d 'Show the most common options'
complete -c imgsearch -n '__imgsearch_has "dupes"' -l help -d 'Show all options'

complete -c imgsearch -n '__imgsearch_has "watch"' -s m -l model -r -f -a '\'auto	the model of the index, else the best available\' \'builtin	no download, Apache-2.0, English\' \'lite	605 MB, MIT, English\' \'fast	1,507 MB, Apache-2.0, multilingual\' \'balanced	1,501 MB, Apache-2.0, multilingual\' \'best	2,685 MB, Apache-2.0, English\' \'best-multilingual	4,544 MB, Apache-2.0, multilingual\' \'max	9,677 MB, Apache-2.0, English\' \'multilingual	4,543 MB, Apache-2.0, multilingual\' \'multilingual-lite	1,464 MB, MIT, multilingual\' \'mobileclip2-s0	299 MB, Apple AMLR (research only), English\' \'mobileclip2-s2	397 MB, Apple AMLR (research only), English\' \'mobileclip2-b	599 MB, Apple AMLR (research only), English\' \'mobileclip2-s4	1,782 MB, Apple AMLR (research only), English\' \'dfn-h	3,944 MB, Apple (research only), English\' \'metaclip2-h	7,435 MB, CC BY-NC 4.0, multilingual\'' -d 'builtin, an alias (see `imgsearch models`), an open_clip ARCH/TAG, hf-hub:ORG/REPO, local-dir:DIR, or auto'
complete -c imgsearch -n '__imgsearch_has "watch"' -l exclude -r -f -d 'Skip files and folders that match, as in .gitignore'
complete -c imgsearch -n '__imgsearch_has "watch"' -l hidden -d 'Include files and folders whose name starts with a dot'
complete -c imgsearch -n '__imgsearch_has "watch"' -l decode -r -f -a 'fast exact' -d 'fast reads large JPEGs at a reduced size; exact reads every pixel'
complete -c imgsearch -n '__imgsearch_has "watch"' -l workers -r -f -d 'Number of decoding processes'
complete -c imgsearch -n '__imgsearch_has "watch"' -l poll -r -f -d 'Seconds between scans of folders that cannot report changes, such as network disks'
complete -c imgsearch -n '__imgsearch_has "watch"' -l device -r -f -a 'auto cuda mps cpu' -d 'Where to run the model'
complete -c imgsearch -n '__imgsearch_has "watch"' -l precision -r -f -a 'auto fp16 bf16 fp32' -d 'Floating-point format of the model; auto depends on the device'
complete -c imgsearch -n '__imgsearch_has "watch"' -l offline -d 'Download nothing: use only models that are on this machine'
complete -c imgsearch -n '__imgsearch_has "watch"' -l json -d 'Print JSON Lines: one object per line'
complete -c imgsearch -n '__imgsearch_has "watch"' -s q -l quiet -d 'Only print errors'
complete -c imgsearch -n '__imgsearch_has "watch"' -s v -l verbose -d 'Print details on stderr, such as the model, the files and the time each step takes'
complete -c imgsearch -n '__imgsearch_has "watch"' -l index -r -f -a '(__imgsearch_folders) (__imgsearch_names indexes)' -d 'The index to use'
complete -c imgsearch -n '__imgsearch_has "watch"' -s h -d 'Show the most common options'
complete -c imgsearch -n '__imgsearch_has "watch"' -l help -d 'Show all options'
complete -c imgsearch -n '__imgsearch_has "watch"' -f -a '(__imgsearch_folders)'

complete -c imgsearch -n '__imgsearch_has "serve"' -l host -r -f -d 'The address to listen on'
complete -c imgsearch -n '__imgsearch_has "serve"' -l port -r -f -d 'The port to listen on; 0 means any free port'
complete -c imgsearch -n '__imgsearch_has "serve"' -l socket-only -d 'Do not open a gallery; only speed up `imgsearch query`'
complete -c imgsearch -n '__imgsearch_has "serve"' -l idle -r -f -d 'Exit after this many minutes without a query; 0 means never'
complete -c imgsearch -n '__imgsearch_has "serve"' -l device -r -f -a 'auto cuda mps cpu' -d 'Where to run the model'
complete -c imgsearch -n '__imgsearch_has "serve"' -l offline -d 'Download nothing: use only models that are on this machine'
complete -c imgsearch -n '__imgsearch_has "serve"' -s q -l quiet -d 'Only print errors'
complete -c imgsearch -n '__imgsearch_has "serve"' -l index -r -f -a '(__imgsearch_folders) (__imgsearch_names indexes)' -d 'The index to use'
complete -c imgsearch -n '__imgsearch_has "serve"' -s h -d 'Show the most common options'
complete -c imgsearch -n '__imgsearch_has "serve"' -l help -d 'Show all options'

complete -c imgsearch -n '__imgsearch_has "status"' -l json -d 'Print JSON Lines: one object per line'
complete -c imgsearch -n '__imgsearch_has "status"' -l index -r -f -a '(__imgsearch_folders) (__imgsearch_names indexes)' -d 'The index to use'
complete -c imgsearch -n '__imgsearch_has "status"' -s h -d 'Show the most common options'
complete -c imgsearch -n '__imgsearch_has "status"' -l help -d 'Show all options'

complete -c imgsearch -n '__imgsearch_has "failures"' -l all -d 'Also list the damaged photos that were indexed'
complete -c imgsearch -n '__imgsearch_has "failures"' -l json -d 'Print JSON Lines: one object per line'
complete -c imgsearch -n '__imgsearch_has "failures"' -l index -r -f -a '(__imgsearch_folders) (__imgsearch_names indexes)' -d 'The index to use'
complete -c imgsearch -n '__imgsearch_has "failures"' -s h -d 'Show the most common options'
complete -c imgsearch -n '__imgsearch_has "failures"' -l help -d 'Show all options'

complete -c imgsearch -n '__imgsearch_has "prune"' -l offline -r -f -a '(__imgsearch_names roots)' -d 'Also remove the photos that are missing in this offline root'
complete -c imgsearch -n '__imgsearch_has "prune"' -l space -r -f -d 'Also remove all vectors of this model, given by its name or its id in `imgsearch status`'
complete -c imgsearch -n '__imgsearch_has "prune"' -l imported -d 'Also remove imported vectors whose photos were never indexed here'
complete -c imgsearch -n '__imgsearch_has "prune"' -l dry-run -d 'Show what would be done, and change nothing'
complete -c imgsearch -n '__imgsearch_has "prune"' -l wait -d 'If another process is writing to the index, wait until it has finished'
complete -c imgsearch -n '__imgsearch_has "prune"' -l json -d 'Print JSON Lines: one object per line'
complete -c imgsearch -n '__imgsearch_has "prune"' -s q -l quiet -d 'Only print errors'
complete -c imgsearch -n '__imgsearch_has "prune"' -s v -l verbose -d 'Print details on stderr, such as the model, the files and the time each step takes'
complete -c imgsearch -n '__imgsearch_has "prune"' -l index -r -f -a '(__imgsearch_folders) (__imgsearch_names indexes)' -d 'The index to use'
complete -c imgsearch -n '__imgsearch_has "prune"' -s h -d 'Show the most common options'
complete -c imgsearch -n '__imgsearch_has "prune"' -l help -d 'Show all options'

complete -c imgsearch -n '__imgsearch_has "check"' -l deep -d 'Also read and embed a sample of the photos again, and compare'
complete -c imgsearch -n '__imgsearch_has "check"' -l sample -r -f -d 'Number of photos that --deep reads; 0 means all'
complete -c imgsearch -n '__imgsearch_has "check"' -l repair -d 'Fix what is found, and embed again what was lost'
complete -c imgsearch -n '__imgsearch_has "check"' -l device -r -f -a 'auto cuda mps cpu' -d 'Where to run the model'
complete -c imgsearch -n '__imgsearch_has "check"' -l offline -d 'Download nothing: use only models that are on this machine'
complete -c imgsearch -n '__imgsearch_has "check"' -l wait -d 'If another process is writing to the index, wait until it has finished'
complete -c imgsearch -n '__imgsearch_has "check"' -l json -d 'Print JSON Lines: one object per line'
complete -c imgsearch -n '__imgsearch_has "check"' -s q -l quiet -d 'Only print errors'
complete -c imgsearch -n '__imgsearch_has "check"' -s v -l verbose -d 'Print details on stderr, such as the model, the files and the time each step takes'
complete -c imgsearch -n '__imgsearch_has "check"' -l index -r -f -a '(__imgsearch_folders) (__imgsearch_names indexes)' -d 'The index to use'
complete -c imgsearch -n '__imgsearch_has "check"' -s h -d 'Show the most common options'
complete -c imgsearch -n '__imgsearch_has "check"' -l help -d 'Show all options'

complete -c imgsearch -n '__imgsearch_has "doctor"' -l json -d 'Print JSON Lines: one object per line'
complete -c imgsearch -n '__imgsearch_has "doctor"' -l index -r -f -a '(__imgsearch_folders) (__imgsearch_names indexes)' -d 'The index to use'
complete -c imgsearch -n '__imgsearch_has "doctor"' -s h -d 'Show the most common options'
complete -c imgsearch -n '__imgsearch_has "doctor"' -l help -d 'Show all options'

complete -c imgsearch -n '__imgsearch_has "config"' -s h -d 'Show the most common options'
complete -c imgsearch -n '__imgsearch_has "config"' -l help -d 'Show all options'
complete -c imgsearch -n '__imgsearch_has "config"' -a list -d 'List the settings'
complete -c imgsearch -n '__imgsearch_has "config"' -a get -d 'Print the setting of a key, each value on its own line'
complete -c imgsearch -n '__imgsearch_has "config"' -a set -d 'Set a key in the file'
complete -c imgsearch -n '__imgsearch_has "config"' -a unset -d 'Remove a key from the file'
complete -c imgsearch -n '__imgsearch_has "config"' -a path -d 'Print the path of the file, whether or not it exists'
complete -c imgsearch -n '__imgsearch_has "config"' -a edit -d 'Open the file in $VISUAL or $EDITOR, then check it'

complete -c imgsearch -n '__imgsearch_has "config list"' -l all -d 'List every key, with the values it accepts and its setting'
complete -c imgsearch -n '__imgsearch_has "config list"' -l json -d 'Print JSON Lines: one object per line'
complete -c imgsearch -n '__imgsearch_has "config list"' -s h -d 'Show the most common options'
complete -c imgsearch -n '__imgsearch_has "config list"' -l help -d 'Show all options'

complete -c imgsearch -n '__imgsearch_has "config get"' -s h -d 'Show the most common options'
complete -c imgsearch -n '__imgsearch_has "config get"' -l help -d 'Show all options'
complete -c imgsearch -n '__imgsearch_has "config get"' -f -a 'after all allow-missing ann annotations any auto-cut batch-size before calibrate.device calibrate.hubness calibrate.index calibrate.json calibrate.no-hubness calibrate.offline calibrate.quiet calibrate.wait camera captions-per-image check.deep check.device check.index check.json check.offline check.quiet check.repair check.sample check.verbose check.wait compare compose config.list.all config.list.json decode deep device diverse doctor.index doctor.json dry-run dupes.exact dupes.index dupes.json dupes.keep dupes.others dupes.paths dupes.print0 dupes.quick dupes.quiet dupes.under dupes.verbose dupes.workers eval.allow-missing eval.ann eval.annotations eval.captions-per-image eval.compare eval.compose eval.device eval.exact eval.gallery eval.images eval.include-reference eval.index eval.join eval.json eval.limit eval.metrics eval.model eval.offline eval.out eval.precision eval.prompt eval.quiet eval.shared-concept eval.split eval.submission eval.wait eval.weight exact exclude explain export.format export.index export.json export.quiet ext failures.all failures.index failures.json fields format from gallery glob group has hidden host html hubness idle image images import.index import.json import.quiet import.wait imported include-offline include-reference index index.batch-size index.decode index.device index.dry-run index.exclude index.hidden index.index index.json index.model index.offline index.precision index.preprocess-from index.quiet index.time-limit index.verbose index.wait index.weights index.workers init.quiet join json keep keyword lens less-like limit metadata metrics min-score min-size min-z modality model models.export.json models.export.offline models.export.quiet models.import.json models.import.quiet models.json month more-like name natural near no-history no-hubness no-server not notes.add.device notes.add.index notes.add.json notes.add.offline notes.add.quiet notes.add.wait notes.list.index notes.list.json notes.list.quiet notes.remove.index notes.remove.json notes.remove.quiet notes.remove.text notes.remove.wait offline on open orientation others out paths place poll port precision preprocess-from preview print0 prompt prune.dry-run prune.imported prune.index prune.json prune.offline prune.quiet prune.space prune.verbose prune.wait query.after query.all query.ann query.any query.auto-cut query.before query.camera query.compose query.device query.diverse query.exact query.explain query.ext query.fields query.from query.glob query.group query.has query.html query.image query.include-offline query.include-reference query.index query.json query.keyword query.lens query.less-like query.limit query.metadata query.min-score query.min-size query.min-z query.modality query.month query.more-like query.name query.natural query.near query.no-history query.no-server query.not query.offline query.on query.open query.orientation query.paths query.place query.preview query.print0 query.quiet query.rating query.reverse query.root query.sort query.text query.to query.under query.verbatim query.verbose query.weight quick quiet rating repair reverse root roots.list.index roots.list.json roots.move.index roots.move.json roots.move.quiet roots.move.wait sample serve.device serve.host serve.idle serve.index serve.offline serve.port serve.quiet serve.socket-only shared-concept similar.ann similar.device similar.exact similar.group similar.include-offline similar.include-reference similar.index similar.json similar.limit similar.metadata similar.min-score similar.offline similar.paths similar.print0 similar.quiet similar.under similar.verbose socket-only sort space split status.index status.json submission text time-limit to under verbatim verbose wait watch.decode watch.device watch.exclude watch.hidden watch.index watch.json watch.model watch.offline watch.poll watch.precision watch.quiet watch.verbose watch.workers weight weights workers'

complete -c imgsearch -n '__imgsearch_has "config set"' -s h -d 'Show the most common options'
complete -c imgsearch -n '__imgsearch_has "config set"' -l help -d 'Show all options'
complete -c imgsearch -n '__imgsearch_has "config set"' -f -a 'after all allow-missing ann annotations any auto-cut batch-size before calibrate.device calibrate.hubness calibrate.index calibrate.json calibrate.no-hubness calibrate.offline calibrate.quiet calibrate.wait camera captions-per-image check.deep check.device check.index check.json check.offline check.quiet check.repair check.sample check.verbose check.wait compare compose config.list.all config.list.json decode deep device diverse doctor.index doctor.json dry-run dupes.exact dupes.index dupes.json dupes.keep dupes.others dupes.paths dupes.print0 dupes.quick dupes.quiet dupes.under dupes.verbose dupes.workers eval.allow-missing eval.ann eval.annotations eval.captions-per-image eval.compare eval.compose eval.device eval.exact eval.gallery eval.images eval.include-reference eval.index eval.join eval.json eval.limit eval.metrics eval.model eval.offline eval.out eval.precision eval.prompt eval.quiet eval.shared-concept eval.split eval.submission eval.wait eval.weight exact exclude explain export.format export.index export.json export.quiet ext failures.all failures.index failures.json fields format from gallery glob group has hidden host html hubness idle image images import.index import.json import.quiet import.wait imported include-offline include-reference index index.batch-size index.decode index.device index.dry-run index.exclude index.hidden index.index index.json index.model index.offline index.precision index.preprocess-from index.quiet index.time-limit index.verbose index.wait index.weights index.workers init.quiet join json keep keyword lens less-like limit metadata metrics min-score min-size min-z modality model models.export.json models.export.offline models.export.quiet models.import.json models.import.quiet models.json month more-like name natural near no-history no-hubness no-server not notes.add.device notes.add.index notes.add.json notes.add.offline notes.add.quiet notes.add.wait notes.list.index notes.list.json notes.list.quiet notes.remove.index notes.remove.json notes.remove.quiet notes.remove.text notes.remove.wait offline on open orientation others out paths place poll port precision preprocess-from preview print0 prompt prune.dry-run prune.imported prune.index prune.json prune.offline prune.quiet prune.space prune.verbose prune.wait query.after query.all query.ann query.any query.auto-cut query.before query.camera query.compose query.device query.diverse query.exact query.explain query.ext query.fields query.from query.glob query.group query.has query.html query.image query.include-offline query.include-reference query.index query.json query.keyword query.lens query.less-like query.limit query.metadata query.min-score query.min-size query.min-z query.modality query.month query.more-like query.name query.natural query.near query.no-history query.no-server query.not query.offline query.on query.open query.orientation query.paths query.place query.preview query.print0 query.quiet query.rating query.reverse query.root query.sort query.text query.to query.under query.verbatim query.verbose query.weight quick quiet rating repair reverse root roots.list.index roots.list.json roots.move.index roots.move.json roots.move.quiet roots.move.wait sample serve.device serve.host serve.idle serve.index serve.offline serve.port serve.quiet serve.socket-only shared-concept similar.ann similar.device similar.exact similar.group similar.include-offline similar.include-reference similar.index similar.json similar.limit similar.metadata similar.min-score similar.offline similar.paths similar.print0 similar.quiet similar.under similar.verbose socket-only sort space split status.index status.json submission text time-limit to under verbatim verbose wait watch.decode watch.device watch.exclude watch.hidden watch.index watch.json watch.model watch.offline watch.poll watch.precision watch.quiet watch.verbose watch.workers weight weights workers'

complete -c imgsearch -n '__imgsearch_has "config unset"' -s h -d 'Show the most common options'
complete -c imgsearch -n '__imgsearch_has "config unset"' -l help -d 'Show all options'
complete -c imgsearch -n '__imgsearch_has "config unset"' -f -a 'after all allow-missing ann annotations any auto-cut batch-size before calibrate.device calibrate.hubness calibrate.index calibrate.json calibrate.no-hubness calibrate.offline calibrate.quiet calibrate.wait camera captions-per-image check.deep check.device check.index check.json check.offline check.quiet check.repair check.sample check.verbose check.wait compare compose config.list.all config.list.json decode deep device diverse doctor.index doctor.json dry-run dupes.exact dupes.index dupes.json dupes.keep dupes.others dupes.paths dupes.print0 dupes.quick dupes.quiet dupes.under dupes.verbose dupes.workers eval.allow-missing eval.ann eval.annotations eval.captions-per-image eval.compare eval.compose eval.device eval.exact eval.gallery eval.images eval.include-reference eval.index eval.join eval.json eval.limit eval.metrics eval.model eval.offline eval.out eval.precision eval.prompt eval.quiet eval.shared-concept eval.split eval.submission eval.wait eval.weight exact exclude explain export.format export.index export.json export.quiet ext failures.all failures.index failures.json fields format from gallery glob group has hidden host html hubness idle image images import.index import.json import.quiet import.wait imported include-offline include-reference index index.batch-size index.decode index.device index.dry-run index.exclude index.hidden index.index index.json index.model index.offline index.precision index.preprocess-from index.quiet index.time-limit index.verbose index.wait index.weights index.workers init.quiet join json keep keyword lens less-like limit metadata metrics min-score min-size min-z modality model models.export.json models.export.offline models.export.quiet models.import.json models.import.quiet models.json month more-like name natural near no-history no-hubness no-server not notes.add.device notes.add.index notes.add.json notes.add.offline notes.add.quiet notes.add.wait notes.list.index notes.list.json notes.list.quiet notes.remove.index notes.remove.json notes.remove.quiet notes.remove.text notes.remove.wait offline on open orientation others out paths place poll port precision preprocess-from preview print0 prompt prune.dry-run prune.imported prune.index prune.json prune.offline prune.quiet prune.space prune.verbose prune.wait query.after query.all query.ann query.any query.auto-cut query.before query.camera query.compose query.device query.diverse query.exact query.explain query.ext query.fields query.from query.glob query.group query.has query.html query.image query.include-offline query.include-reference query.index query.json query.keyword query.lens query.less-like query.limit query.metadata query.min-score query.min-size query.min-z query.modality query.month query.more-like query.name query.natural query.near query.no-history query.no-server query.not query.offline query.on query.open query.orientation query.paths query.place query.preview query.print0 query.quiet query.rating query.reverse query.root query.sort query.text query.to query.under query.verbatim query.verbose query.weight quick quiet rating repair reverse root roots.list.index roots.list.json roots.move.index roots.move.json roots.move.quiet roots.move.wait sample serve.device serve.host serve.idle serve.index serve.offline serve.port serve.quiet serve.socket-only shared-concept similar.ann similar.device similar.exact similar.group similar.include-offline similar.include-reference similar.index similar.json similar.limit similar.metadata similar.min-score similar.offline similar.paths similar.print0 similar.quiet similar.under similar.verbose socket-only sort space split status.index status.json submission text time-limit to under verbatim verbose wait watch.decode watch.device watch.exclude watch.hidden watch.index watch.json watch.model watch.offline watch.poll watch.precision watch.quiet watch.verbose watch.workers weight weights workers'

complete -c imgsearch -n '__imgsearch_has "config path"' -s h -d 'Show the most common options'
complete -c imgsearch -n '__imgsearch_has "config path"' -l help -d 'Show all options'

complete -c imgsearch -n '__imgsearch_has "config edit"' -s h -d 'Show the most common options'
complete -c imgsearch -n '__imgsearch_has "config edit"' -l help -d 'Show all options'

complete -c imgsearch -n '__imgsearch_has "models"' -l json -d 'Print JSON Lines: one object per line'
complete -c imgsearch -n '__imgsearch_has "models"' -s h -d 'Show the most common options'
complete -c imgsearch -n '__imgsearch_has "models"' -l help -d 'Show all options'
complete -c imgsearch -n '__imgsearch_has "models"' -a export -d 'Write a model to a file, for machines without torch'
complete -c imgsearch -n '__imgsearch_has "models"' -a import -d 'Install a model from a file that `imgsearch models export` wrote'

complete -c imgsearch -n '__imgsearch_has "models export"' -l offline -d 'Download nothing: use only models that are on this machine'
complete -c imgsearch -n '__imgsearch_has "models export"' -l json -d 'Print JSON Lines: one object per line'
complete -c imgsearch -n '__imgsearch_has "models export"' -s q -l quiet -d 'Only print errors'
complete -c imgsearch -n '__imgsearch_has "models export"' -s h -d 'Show the most common options'
complete -c imgsearch -n '__imgsearch_has "models export"' -l help -d 'Show all options'
complete -c imgsearch -n '__imgsearch_has "models export"' -F

complete -c imgsearch -n '__imgsearch_has "models import"' -l json -d 'Print JSON Lines: one object per line'
complete -c imgsearch -n '__imgsearch_has "models import"' -s q -l quiet -d 'Only print errors'
complete -c imgsearch -n '__imgsearch_has "models import"' -s h -d 'Show the most common options'
complete -c imgsearch -n '__imgsearch_has "models import"' -l help -d 'Show all options'
complete -c imgsearch -n '__imgsearch_has "models import"' -F

complete -c imgsearch -n '__imgsearch_has "init"' -s q -l quiet -d 'Only print errors'
complete -c imgsearch -n '__imgsearch_has "init"' -s h -d 'Show the most common options'
complete -c imgsearch -n '__imgsearch_has "init"' -l help -d 'Show all options'
complete -c imgsearch -n '__imgsearch_has "init"' -f -a '(__imgsearch_folders)'

complete -c imgsearch -n '__imgsearch_has "roots"' -s h -d 'Show the most common options'
complete -c imgsearch -n '__imgsearch_has "roots"' -l help -d 'Show all options'
complete -c imgsearch -n '__imgsearch_has "roots"' -a list -d 'List the roots, with their kind, whether they are online, and the number of their photos'
complete -c imgsearch -n '__imgsearch_has "roots"' -a move -d 'Tell the index that the photos of OLD are now in NEW'

complete -c imgsearch -n '__imgsearch_has "roots list"' -l json -d 'Print JSON Lines: one object per line'
complete -c imgsearch -n '__imgsearch_has "roots list"' -l index -r -f -a '(__imgsearch_folders) (__imgsearch_names indexes)' -d 'The index to use'
complete -c imgsearch -n '__imgsearch_has "roots list"' -s h -d 'Show the most common options'
complete -c imgsearch -n '__imgsearch_has "roots list"' -l help -d 'Show all options'

complete -c imgsearch -n '__imgsearch_has "roots move"' -l wait -d 'If another process is writing to the index, wait until it has finished'
complete -c imgsearch -n '__imgsearch_has "roots move"' -l json -d 'Print JSON Lines: one object per line'
complete -c imgsearch -n '__imgsearch_has "roots move"' -s q -l quiet -d 'Only print errors'
complete -c imgsearch -n '__imgsearch_has "roots move"' -l index -r -f -a '(__imgsearch_folders) (__imgsearch_names indexes)' -d 'The index to use'
complete -c imgsearch -n '__imgsearch_has "roots move"' -s h -d 'Show the most common options'
complete -c imgsearch -n '__imgsearch_has "roots move"' -l help -d 'Show all options'
complete -c imgsearch -n '__imgsearch_has "roots move"' -f -a '(__imgsearch_folders)'

complete -c imgsearch -n '__imgsearch_has "notes"' -s h -d 'Show the most common options'
complete -c imgsearch -n '__imgsearch_has "notes"' -l help -d 'Show all options'
complete -c imgsearch -n '__imgsearch_has "notes"' -a add -d 'Add a note to one or more photos'
complete -c imgsearch -n '__imgsearch_has "notes"' -a list -d 'List notes, oldest first, with the photos they are about'
complete -c imgsearch -n '__imgsearch_has "notes"' -a remove -d 'Remove notes about a photo'

complete -c imgsearch -n '__imgsearch_has "notes add"' -l wait -d 'If another process is writing to the index, wait until it has finished'
complete -c imgsearch -n '__imgsearch_has "notes add"' -l json -d 'Print JSON Lines: one object per line'
complete -c imgsearch -n '__imgsearch_has "notes add"' -l device -r -f -a 'auto cuda mps cpu' -d 'Where to run the model'
complete -c imgsearch -n '__imgsearch_has "notes add"' -l offline -d 'Download nothing: use only models that are on this machine'
complete -c imgsearch -n '__imgsearch_has "notes add"' -s q -l quiet -d 'Only print errors'
complete -c imgsearch -n '__imgsearch_has "notes add"' -l index -r -f -a '(__imgsearch_folders) (__imgsearch_names indexes)' -d 'The index to use'
complete -c imgsearch -n '__imgsearch_has "notes add"' -s h -d 'Show the most common options'
complete -c imgsearch -n '__imgsearch_has "notes add"' -l help -d 'Show all options'
complete -c imgsearch -n '__imgsearch_has "notes add"' -F

complete -c imgsearch -n '__imgsearch_has "notes list"' -l json -d 'Print JSON Lines: one object per line'
complete -c imgsearch -n '__imgsearch_has "notes list"' -s q -l quiet -d 'Only print errors'
complete -c imgsearch -n '__imgsearch_has "notes list"' -l index -r -f -a '(__imgsearch_folders) (__imgsearch_names indexes)' -d 'The index to use'
complete -c imgsearch -n '__imgsearch_has "notes list"' -s h -d 'Show the most common options'
complete -c imgsearch -n '__imgsearch_has "notes list"' -l help -d 'Show all options'
complete -c imgsearch -n '__imgsearch_has "notes list"' -F

complete -c imgsearch -n '__imgsearch_has "notes remove"' -s t -l text -r -f -d 'Only the note with this text'
complete -c imgsearch -n '__imgsearch_has "notes remove"' -l wait -d 'If another process is writing to the index, wait until it has finished'
complete -c imgsearch -n '__imgsearch_has "notes remove"' -l json -d 'Print JSON Lines: one object per line'
complete -c imgsearch -n '__imgsearch_has "notes remove"' -s q -l quiet -d 'Only print errors'
complete -c imgsearch -n '__imgsearch_has "notes remove"' -l index -r -f -a '(__imgsearch_folders) (__imgsearch_names indexes)' -d 'The index to use'
complete -c imgsearch -n '__imgsearch_has "notes remove"' -s h -d 'Show the most common options'
complete -c imgsearch -n '__imgsearch_has "notes remove"' -l help -d 'Show all options'
complete -c imgsearch -n '__imgsearch_has "notes remove"' -F

complete -c imgsearch -n '__imgsearch_has "export"' -l format -r -f -a 'npz parquet jsonl' -d 'The format'
complete -c imgsearch -n '__imgsearch_has "export"' -l json -d 'Print JSON Lines: one object per line'
complete -c imgsearch -n '__imgsearch_has "export"' -s q -l quiet -d 'Only print errors'
complete -c imgsearch -n '__imgsearch_has "export"' -l index -r -f -a '(__imgsearch_folders) (__imgsearch_names indexes)' -d 'The index to use'
complete -c imgsearch -n '__imgsearch_has "export"' -s h -d 'Show the most common options'
complete -c imgsearch -n '__imgsearch_has "export"' -l help -d 'Show all options'
complete -c imgsearch -n '__imgsearch_has "export"' -F

complete -c imgsearch -n '__imgsearch_has "import"' -l wait -d 'If another process is writing to the index, wait until it has finished'
complete -c imgsearch -n '__imgsearch_has "import"' -l json -d 'Print JSON Lines: one object per line'
complete -c imgsearch -n '__imgsearch_has "import"' -s q -l quiet -d 'Only print errors'
complete -c imgsearch -n '__imgsearch_has "import"' -l index -r -f -a '(__imgsearch_folders) (__imgsearch_names indexes)' -d 'The index to use'
complete -c imgsearch -n '__imgsearch_has "import"' -s h -d 'Show the most common options'
complete -c imgsearch -n '__imgsearch_has "import"' -l help -d 'Show all options'
complete -c imgsearch -n '__imgsearch_has "import"' -F

complete -c imgsearch -n '__imgsearch_has "calibrate"' -l hubness -d 'In later searches, rank photos that match any words lower'
complete -c imgsearch -n '__imgsearch_has "calibrate"' -l no-hubness -d 'In later searches, rank photos that match any words lower'
complete -c imgsearch -n '__imgsearch_has "calibrate"' -l wait -d 'If another process is writing to the index, wait until it has finished'
complete -c imgsearch -n '__imgsearch_has "calibrate"' -l json -d 'Print JSON Lines: one object per line'
complete -c imgsearch -n '__imgsearch_has "calibrate"' -l device -r -f -a 'auto cuda mps cpu' -d 'Where to run the model'
complete -c imgsearch -n '__imgsearch_has "calibrate"' -l offline -d 'Download nothing: use only models that are on this machine'
complete -c imgsearch -n '__imgsearch_has "calibrate"' -s q -l quiet -d 'Only print errors'
complete -c imgsearch -n '__imgsearch_has "calibrate"' -l index -r -f -a '(__imgsearch_folders) (__imgsearch_names indexes)' -d 'The index to use'
complete -c imgsearch -n '__imgsearch_has "calibrate"' -s h -d 'Show the most common options'
complete -c imgsearch -n '__imgsearch_has "calibrate"' -l help -d 'Show all options'

complete -c imgsearch -n '__imgsearch_has "eval"' -s a -l annotations -r -F -d 'The annotation file; for cirr, fashioniq and circo, the folder of the annotation files'
complete -c imgsearch -n '__imgsearch_has "eval"' -l images -r -f -a '(__imgsearch_folders)' -d 'The folder of the pictures'
complete -c imgsearch -n '__imgsearch_has "eval"' -l split -r -f -d 'The split to use'
complete -c imgsearch -n '__imgsearch_has "eval"' -s m -l model -r -f -a '\'auto	the model of the index, else the best available\' \'builtin	no download, Apache-2.0, English\' \'lite	605 MB, MIT, English\' \'fast	1,507 MB, Apache-2.0, multilingual\' \'balanced	1,501 MB, Apache-2.0, multilingual\' \'best	2,685 MB, Apache-2.0, English\' \'best-multilingual	4,544 MB, Apache-2.0, multilingual\' \'max	9,677 MB, Apache-2.0, English\' \'multilingual	4,543 MB, Apache-2.0, multilingual\' \'multilingual-lite	1,464 MB, MIT, multilingual\' \'mobileclip2-s0	299 MB, Apple AMLR (research only), English\' \'mobileclip2-s2	397 MB, Apple AMLR (research only), English\' \'mobileclip2-b	599 MB, Apple AMLR (research only), English\' \'mobileclip2-s4	1,782 MB, Apple AMLR (research only), English\' \'dfn-h	3,944 MB, Apple (research only), English\' \'metaclip2-h	7,435 MB, CC BY-NC 4.0, multilingual\'' -d 'A model, as for `imgsearch index`'
complete -c imgsearch -n '__imgsearch_has "eval"' -l compose -r -f -a 'scaled and lerp slerp add product weicom basic basic-style pdv' -d 'How to combine a picture and words: scaled, and, lerp, slerp, add, product, weicom, basic, basic-style, pdv'
complete -c imgsearch -n '__imgsearch_has "eval"' -s w -l weight -r -f -d 'Weight of the words: 0 is the picture alone, 1 the words alone'
complete -c imgsearch -n '__imgsearch_has "eval"' -l exact -d 'Scan every vector (the default), or use HNSW graphs where they exist'
complete -c imgsearch -n '__imgsearch_has "eval"' -l ann -d 'Scan every vector (the default), or use HNSW graphs where they exist'
complete -c imgsearch -n '__imgsearch_has "eval"' -l metrics -r -f -d 'Comma-separated list of recall@K, hit_rate@K, share_found@K, precision@K, mrr, mrr@K, map@K, ndcg@K, median_rank'
complete -c imgsearch -n '__imgsearch_has "eval"' -s n -l limit -r -f -d 'Length of the rankings that --out writes'
complete -c imgsearch -n '__imgsearch_has "eval"' -l captions-per-image -r -f -a '5 all' -d 'coco, flickr: use the first five captions of each picture, or all'
complete -c imgsearch -n '__imgsearch_has "eval"' -l prompt -r -f -d 'coco, flickr: the text to search by, with {} for the caption'
complete -c imgsearch -n '__imgsearch_has "eval"' -l gallery -r -f -a 'original union' -d 'fashioniq: rank the whole split, or only its references and targets'
complete -c imgsearch -n '__imgsearch_has "eval"' -l join -r -f -a 'mean and reversed comma' -d 'fashioniq: how to join the two captions into one query'
complete -c imgsearch -n '__imgsearch_has "eval"' -l shared-concept -r -f -a 'none magiclens bge' -d 'circo: how the query names what both pictures share'
complete -c imgsearch -n '__imgsearch_has "eval"' -l include-reference -d 'jsonl: also rank the picture of the query itself'
complete -c imgsearch -n '__imgsearch_has "eval"' -l allow-missing -d 'Run even if pictures are missing'
complete -c imgsearch -n '__imgsearch_has "eval"' -l out -r -F -d 'Write the result, with the ranking and metrics of every query, to this file'
complete -c imgsearch -n '__imgsearch_has "eval"' -l compare -r -F -d 'Compare this run with one that --out wrote'
complete -c imgsearch -n '__imgsearch_has "eval"' -l submission -r -F -d 'cirr, circo, fashioniq: write the file to submit to the benchmark\'s server'
complete -c imgsearch -n '__imgsearch_has "eval"' -l device -r -f -a 'auto cuda mps cpu' -d 'Where to run the model'
complete -c imgsearch -n '__imgsearch_has "eval"' -l precision -r -f -a 'auto fp16 bf16 fp32' -d 'Floating-point format of the model; auto depends on the device'
complete -c imgsearch -n '__imgsearch_has "eval"' -l offline -d 'Download nothing: use only models that are on this machine'
complete -c imgsearch -n '__imgsearch_has "eval"' -l wait -d 'If another process is writing to the index, wait until it has finished'
complete -c imgsearch -n '__imgsearch_has "eval"' -l json -d 'Print the result as one JSON object'
complete -c imgsearch -n '__imgsearch_has "eval"' -s q -l quiet -d 'Only print errors'
complete -c imgsearch -n '__imgsearch_has "eval"' -l index -r -f -a '(__imgsearch_folders) (__imgsearch_names indexes)' -d 'The index of the pictures, created if missing'
complete -c imgsearch -n '__imgsearch_has "eval"' -s h -d 'Show the most common options'
complete -c imgsearch -n '__imgsearch_has "eval"' -l help -d 'Show all options'
complete -c imgsearch -n '__imgsearch_has "eval"' -f -a 'coco flickr cirr fashioniq circo jsonl'
