/* Numbers of JSON, read to the bit as Python reads them, eight digits at a time.

   The digits become a whole number, and that times a power of ten a double: the 64 bits of the number times the first 64
   bits of the power of five, rounded to 53. What the rest of the power's bits would add is less than two in the last of
   the product's first 64 bits; where as much could change the rounding (one number of a thousand), and where there are
   more digits or a further power, Python's own conversion is asked. (Lemire, "Number parsing at a gigabyte per second",
   Software: Practice and Experience 51(8), 2021, which goes on to the further bits instead.) */

#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#define BIGGEST 3.4e38 /* as loaded._FLOAT32_LIMIT */
#define EXACT_DIGITS 19 /* which 64 bits always hold */
#define MOST_POWER 54 /* 5^54 and twice that fit into 128 bits */

static inline int
is_digit(char sign)
{
    return (unsigned char)(sign - '0') < 10;
}

#if defined(__SIZEOF_INT128__)
typedef unsigned __int128 Wide;

static uint64_t fives[2 * MOST_POWER + 1]; /* the first 64 bits of 5^(place - MOST_POWER), rounded down */

/* Called once, before a number is read. */
static void
fill_fives(void)
{
    Wide power = 1;
    for (int at = 0; at <= MOST_POWER; at++, power *= 5) {
        int bits = 1;
        uint64_t inverse = 0;
        Wide rest;
        while (bits < 128 && power >> bits)
            bits++;
        fives[MOST_POWER + at] = (uint64_t)(bits > 64 ? power >> (bits - 64) : power << (64 - bits));
        if (at == 0)
            continue;
        rest = (Wide)1 << (bits - 1); /* 2^(bits + 63) / power by long division: 64 bits, the first of which is set */
        for (int bit = 0; bit < 64; bit++) {
            rest <<= 1;
            inverse = inverse << 1 | (rest >= power);
            if (rest >= power)
                rest -= power;
        }
        fives[MOST_POWER - at] = inverse;
    }
}

/* digits * 10^power as a double's bits, if what is left out leaves no doubt about them; `digits` is not 0. */
static inline int
scaled(uint64_t digits, int power, uint64_t *bits)
{
    int zeros = __builtin_clzll(digits), shift, exponent;
    uint64_t high = (uint64_t)((Wide)(digits << zeros) * fives[power + MOST_POWER] >> 64), rest, half;
    shift = 10 + (int)(high >> 63); /* 53 bits are left */
    rest = high & ((UINT64_C(1) << shift) - 1);
    half = UINT64_C(1) << (shift - 1);
    if (rest == half || rest == half - 1) /* less than two more is halfway, or on either side of it */
        return 0;
    exponent = 1023 + 52 + shift + 64 - zeros + ((217706 * power) >> 16) - 63; /* 217706 / 2^16: the bits of a ten */
    *bits = ((uint64_t)(exponent - 1) << 52) + (high >> shift) + (rest > half);
    return 1;
}
#else
#define fill_fives() ((void)0)
#define scaled(digits, power, bits) ((void)(bits), 0)
#endif

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ && defined(__GNUC__)
#define BY_EIGHT 1
static const uint64_t tens[8] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000};

/* Eight signs, the first one's in the lowest byte, as the digits' values. */
static inline uint64_t
load_eight(const char *at)
{
    uint64_t signs;
    memcpy(&signs, at, sizeof signs);
    return signs ^ 0x3030303030303030;
}

/* A mark in the highest bit of what is no digit; behind the first such there may be others, as a sum may carry. */
static inline uint64_t
marked(uint64_t signs)
{
    return ((signs + 0x7676767676767676) | signs) & 0x8080808080808080;
}

/* The number that eight digits make. */
static inline uint64_t
joined(uint64_t signs)
{
    signs = signs * 10 + (signs >> 8);
    return ((signs & 0x000000FF000000FF) * 0x000F424000000064 +
            ((signs >> 16) & 0x000000FF000000FF) * 0x0000271000000001) >> 32;
}
#else
#define BY_EIGHT 0
#endif

/* Read on as long as there are digits; where they end. */
static inline const char *
pass_digits(const char *at, const char *end, uint64_t *digits)
{
#if BY_EIGHT
    for (; end - at >= 8; at += 8) {
        uint64_t signs = load_eight(at), others = marked(signs);
        if (others) { /* a last few, or none: with zeros before them they are eight as well */
            int place = __builtin_ctzll(others); /* 8 for each digit, and 7 */
            *digits = *digits * tens[place >> 3] + joined(signs << 1 << (70 - place));
            return at + (place >> 3);
        }
        *digits = *digits * 100000000 + joined(signs);
    }
#endif
    for (; at < end && is_digit(*at); at++)
        *digits = *digits * 10 + (uint64_t)(*at - '0');
    return at;
}

/* The exponent behind an `e`, added to the power; where it ends, or NULL if it is no whole number. */
static const char *
pass_exponent(const char *at, const char *end, int *power)
{
    int sign = 1, found = 0;
    const char *first;
    if (at < end && (*at == '+' || *at == '-'))
        sign = *at++ == '-' ? -1 : 1;
    for (first = at; at < end && is_digit(*at); at++)
        if (found < 10000)
            found = found * 10 + (*at - '0');
    *power += sign * found;
    return at == first ? NULL : at;
}

/* How many digits there are behind the zeros at the beginning. */
static Py_ssize_t
without_zeros(const char *at, const char *end)
{
    Py_ssize_t count = 0;
    for (; at < end && *at != 'e' && *at != 'E'; at++)
        count += *at != '.' && (count || *at != '0');
    return count;
}

/* Python's own conversion: by the number's end it stops itself. */
static const char *
ask_python(const char *start, const char *end, double *found)
{
    char *behind;
    *found = PyOS_string_to_double(start, &behind, NULL);
    if (PyErr_Occurred()) {
        PyErr_Clear();
        return NULL;
    }
    return behind == end && fabs(*found) < BIGGEST ? end : NULL;
}

/* A number of JSON, rounded as Python rounds it; where it ends, or NULL. The byte at `end` can be read, and is none that
   goes on with a number. */
static inline const char *
pass_number(const char *start, const char *end, double *found)
{
    const char *first = start + (*start == '-'), *at = first; /* no branch, as half of them would be guessed wrong */
    uint64_t digits = 0, bits = 0;
    Py_ssize_t count;
    int power = 0;

    for (; at < end && is_digit(*at); at++)
        digits = digits * 10 + (uint64_t)(*at - '0');
    count = at - first;
    if (count <= 0 || (count > 1 && *first == '0'))
        return NULL;
    if (*at == '.' && at < end) {
        const char *point = ++at;
        at = pass_digits(at, end, &digits);
        if (at == point || at - point > 10000)
            return NULL;
        count += at - point;
        power = -(int)(at - point);
    }
    if ((*at == 'e' || *at == 'E') && at < end && (at = pass_exponent(at + 1, end, &power)) == NULL)
        return NULL;
    if (count > EXACT_DIGITS && without_zeros(first, at) > EXACT_DIGITS)
        return ask_python(start, at, found);
    if (digits && (power < -MOST_POWER || power > MOST_POWER || !scaled(digits, power, &bits)))
        return ask_python(start, at, found);
    bits |= (uint64_t)(first != start) << 63;
    memcpy(found, &bits, sizeof bits);
    return fabs(*found) < BIGGEST ? at : NULL;
}
