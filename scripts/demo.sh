#!/bin/sh
# Makes one of each thing the project can do, small and quick, and prints where it is.
set -eu
cd "$(dirname "$0")/.."
python=${VENV:-.venv}/bin/python
out=results/demo-$(date +%Y%m%d-%H%M%S)
mkdir -p "$out"

# make WHAT NAME ...: say what it is, and make the picture NAME from the rest
make() {
    printf '\n%s\n' "$1"
    name=$2
    shift 2
    "$python" -m app generate --quiet --quality draft --out "$out/$name.png" "$@"
}

make "Words, and the film of how they became a picture:" \
    apple "a red apple on a blue background" --seed 1 --timelapse
make "The same again, from the recipe inside that picture:" \
    again --from "$out/apple.png"
make "Words weighed against each other, on a wide picture:" \
    boat "a sailing boat on the sea::2 | sunset | people::-0.5" --seed 2 --size 256x160
make "A picture steers beside the words:" \
    like "a house" --image-prompt "$out/apple.png::0.5" --seed 3
make "A picture to begin with, changed as the words change:" \
    pear "a green pear" --init "$out/apple.png" --distance directional --before "a red apple" --seed 4
printf '\nAn instruction changes that apple, and nothing else:\n'
"$python" -m app edit --quiet --quality draft --out "$out/edited.png" --seed 6 "$out/apple.png" \
    "make the apple green"
printf '\nA sound is listened to, and steers beside words:\n'
"$python" -m app listen --quiet --quality draft --out "$out/heard.png" --seed 7 \
    app/examples/duck.flac --text "a house"
make "Without a network that draws, as waves of colour:" \
    waves "a red apple on a blue background" --generator fourier --seed 5

printf '\nEverything is in %s\n' "$out"
