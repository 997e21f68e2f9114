#!/bin/sh
# Random, so that the same bytes twice came out of a cache; text that compresses beside
# what does not, and more than one message of both.
echo 'this is said on stdout'
mkdir -p out/deep
: > out/empty.bin
head -c 100 /dev/urandom > out/small.bin
head -c 5242880 /dev/urandom > out/deep/large.bin
{ head -c 100 /dev/urandom | od; seq 1 900000; } > out/deep/large.txt
head -c 60000 /dev/urandom | od > out/deep/middle.txt
