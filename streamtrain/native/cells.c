/* Cells: a value with the blanks and quotes around it. See `split_row`: the careful row parser reads every row that
   these functions refuse. */

#define LONGEST_CELL 65536 /* below the limit of the csv module */

/* Return the position after the blanks at `at`. */
INLINE const uint8_t *skip_blanks(const uint8_t *at, uint8_t delimiter)
{
    while ((*at == ' ' || *at == '\t') && *at != delimiter)
        at++;
    return at;
}

/* Return the position after the delimiter at `at`, or NULL if there is none; several spaces are one delimiter. */
INLINE const uint8_t *skip_delimiter(const uint8_t *at, uint8_t delimiter)
{
    if (*at++ != delimiter)
        return NULL;
    while (delimiter == ' ' && *at == ' ')
        at++;
    return at;
}

/* Skip what may come before a value in its cell: return its position, or NULL. *quoted: whether it is in quotes. */
INLINE const uint8_t *open_cell(const uint8_t *at, uint8_t delimiter, int *quoted)
{
    const uint8_t *start = at;
    if (delimiter != ' ')
        at = skip_blanks(at, delimiter);
    *quoted = *at == '"';
    if (!*quoted)
        return at;
    for (; start < at; start++)
        if (*start != ' ') /* after a tab, a quote is part of the value */
            return NULL;
    for (at++; *at == ' ' || *at == '\t';)
        at++;
    return at;
}

/* Return the position after what may follow a value in its cell, or NULL. */
INLINE const uint8_t *close_cell(const uint8_t *at, uint8_t delimiter, int quoted)
{
    if (!quoted)
        return delimiter == ' ' ? at : skip_blanks(at, delimiter);
    while (*at == ' ' || *at == '\t')
        at++;
    return *at == '"' ? at + 1 : NULL;
}

/* Read a cell that is a number. */
INLINE const uint8_t *number_cell(const uint8_t *at, uint8_t delimiter, int decimal, double *value)
{
    int quoted;
    if (!(at = open_cell(at, delimiter, &quoted)) || !(at = read_number(at, decimal, value)))
        return NULL;
    return close_cell(at, delimiter, quoted);
}

/* Read a cell of text that has no inner quotes or control characters: [*text, *end) is trimmed of blanks. */
INLINE const uint8_t *text_cell(const uint8_t *at, uint8_t delimiter, const uint8_t **text, const uint8_t **end)
{
    int quoted;
    if (!(at = open_cell(at, delimiter, &quoted)))
        return NULL;
    for (*text = *end = at; *at != '"' && (*at != delimiter || quoted) && (*at >= 32 || *at == '\t'); at++) {
        if (*at != ' ' && *at != '\t')
            *end = at + 1;
        else if (quoted && delimiter == ' ') /* several spaces are one delimiter, in quotes too */
            return NULL;
        if (at - *text > LONGEST_CELL)
            return NULL;
    }
    if (quoted)
        return *at == '"' ? at + 1 : NULL;
    if (delimiter == ' ' && at == *text) /* no value, after the last delimiter */
        return NULL;
    return *at == delimiter || *at == NEWLINE || *at == RETURN ? at : NULL;
}

INLINE int same_text(const uint8_t *text, size_t length, const uint8_t *other, size_t other_length)
{
    return length == other_length && !memcmp(text, other, length);
}

/* Return the slot of a word, or the empty slot for it. */
INLINE int32_t *slot_of(struct words *words, const uint8_t *text, size_t length)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ text[i]) * 16777619u;
    uint32_t at = (hash ^ hash >> 15) % WORD_SLOTS;
    for (; words->slots[at]; at = (at + 1) % WORD_SLOTS) {
        int32_t word = words->slots[at] - 1, start = word ? words->ends[word - 1] : 0;
        if (same_text(text, length, words->text + start, (size_t)(words->ends[word] - start)))
            break;
    }
    return words->slots + at;
}

/* Whether a text is a whole number in the form that names a class. */
INLINE int is_whole(const uint8_t *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!is_digit(text[i]))
            return 0;
    return length == 1 || text[0] != '0';
}

/* Return the index of a word, or -1 to refuse it. A new word is added unless the words are declared. */
static int32_t ISA(index_of_word)(const struct layout *how, struct words *words, const uint8_t *text, size_t length)
{
    int32_t *slot = slot_of(words, text, length);
    if (*slot)
        return *slot - 1;
    size_t used = words->count ? (size_t)words->ends[words->count - 1] : 0;
    if (how->label_kind == DECLARED_WORD || words->count == words->room || length > words->text_room - used ||
        !length || !((uint8_t)((text[0] | 32) - 'a') < 26 || (how->label_kind == TEXT && is_whole(text, length))))
        return -1;
    for (size_t i = 0; i < length; i++)
        if (text[i] < 32 || text[i] > 126)
            return -1;
    memcpy(words->text + used, text, length);
    words->ends[words->count] = (int32_t)(used + length);
    *slot = (int32_t)++words->count;
    words->added = slot;
    return *slot - 1;
}
