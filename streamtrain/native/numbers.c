/* Numbers as text, read exactly or refused. A newline follows every text, so a number always ends. */

typedef uint8_t bytes16 __attribute__((vector_size(16)));

INLINE int is_digit(uint8_t byte) { return (uint8_t)(byte - '0') <= 9; }

INLINE uint64_t load_8(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, 8);
    return word;
}

/* Whether 8 bytes are all digits, and their value (Lemire, Number Parsing at a Gigabyte per Second). */
INLINE int are_digits(uint64_t word)
{
    return ((word & 0xF0F0F0F0F0F0F0F0) | ((word + 0x0606060606060606) & 0xF0F0F0F0F0F0F0F0) >> 4) ==
           0x3333333333333333;
}

INLINE uint64_t eight_digits(uint64_t word)
{
    word = (word & 0x0F0F0F0F0F0F0F0F) * 2561 >> 8;
    word = (word & 0x00FF00FF00FF00FF) * 6553601 >> 16;
    return (word & 0x0000FFFF0000FFFF) * 42949672960001 >> 32;
}

/* Append the digits at `at` to *number; return the position after them. *number has room for 19 digits. */
INLINE const uint8_t *add_digits(const uint8_t *at, uint64_t *number)
{
    for (uint64_t word; are_digits(word = load_8(at)); at += 8)
        *number = *number * 100000000 + eight_digits(word);
    for (; is_digit(*at); at++)
        *number = *number * 10 + (uint64_t)(*at - '0');
    return at;
}

static const double tens[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                              1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

/* Return number / 10^power, correctly rounded, for number > 0 and power in 0..27: the quotient by 5^power has 62 or 63
   bits, and the remainder shows whether all further bits are zero. */
INLINE double quotient_of(uint64_t number, int64_t power)
{
    uint64_t divisor = 1;
    for (int64_t i = 0; i < power; i++)
        divisor *= 5;
    int up = __builtin_clzll(number), down = __builtin_clzll(divisor);
    unsigned __int128 numerator = (unsigned __int128)(number << up) << 62;
    uint64_t quotient = (uint64_t)(numerator / (divisor << down));
    uint64_t rest = numerator != (unsigned __int128)quotient * (divisor << down);
    int extra = 64 - 53 - __builtin_clzll(quotient);
    uint64_t half = (uint64_t)1 << (extra - 1), tail = (quotient & (2 * half - 1)) << 1 | rest;
    uint64_t whole = quotient >> extra;
    whole += tail > 2 * half || (tail == 2 * half && whole & 1);
    return (double)whole * power_of_2(extra - 62 + down - up - power);
}

/* Write number · 10^exponent, correctly rounded; return 0 if that is not certain. */
INLINE int scaled(uint64_t number, int64_t exponent, double *value)
{
    if (number >> 53 == 0 && exponent >= -22 && exponent <= 22) { /* both are exact (Clinger, 1990) */
        *value = exponent < 0 ? (double)number / tens[-exponent] : (double)number * tens[exponent];
        return 1;
    }
    if (number == 0) {
        *value = 0;
        return 1;
    }
    if (exponent == 0) {
        *value = (double)number;
        return 1;
    }
    if (exponent > 0 || exponent < -27)
        return 0;
    *value = quotient_of(number, -exponent);
    return 1;
}

/* Read the fraction and exponent that may follow an integer of `digits` digits, which ends before *at. Return the
   position after them, or NULL if it is not certain that they are read correctly. */
static const uint8_t *ISA(read_fraction)(const uint8_t *start, const uint8_t *at, uint64_t number, double *value)
{
    const uint8_t *digits = start;
    int64_t count = at - start, exponent = 0;
    while (digits < at && *digits == '0') /* leading zeros do not count */
        digits++;
    int64_t significant = at - digits;
    if (*at == '.') {
        const uint8_t *point = ++at;
        if (!significant)
            while (*at == '0')
                at++;
        const uint8_t *first = at;
        at = add_digits(at, &number);
        significant += at - first;
        exponent = point - at;
        count += at - point;
    }
    if (!count || significant > 19)
        return NULL;
    if ((*at | 32) == 'e') {
        int negative = *++at == '-';
        uint64_t power = 0;
        at += negative || *at == '+';
        const uint8_t *first = at;
        at = add_digits(at, &power);
        if (at == first || at - first > 4)
            return NULL;
        exponent += negative ? -(int64_t)power : (int64_t)power;
    }
    return scaled(number, exponent, value) ? at : NULL;
}

/* Read the number at `at`, which may have a sign and, if `decimal`, a fraction and an exponent. Return the position
   after it, or NULL. */
INLINE const uint8_t *read_number(const uint8_t *at, int decimal, double *value)
{
    int negative = *at == '-';
    at += negative || *at == '+';
    const uint8_t *start = at;
    uint64_t number = 0;
    for (; is_digit(*at) && at < start + 5; at++)
        number = number * 10 + (uint64_t)(*at - '0');
    if (is_digit(*at))
        at = add_digits(at, &number);
    if (decimal && at > start && at[0] == '.' && at[1] == '0' && at[2] != '.' && (at[2] | 32) != 'e' && !is_digit(at[2]))
        at += 2; /* as in 12.0 */
    if (at > start && at <= start + 15 && *at != '.' && (*at | 32) != 'e')
        *value = (double)number;
    else if (!decimal && (at == start || at > start + 19))
        return NULL;
    else if (!decimal)
        *value = (double)number;
    else if (!(at = ISA(read_fraction)(start, at, number, value)))
        return NULL;
    *value = negative ? -*value : *value;
    return at;
}
