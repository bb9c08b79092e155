/* make_texts.c - writes the small texts of examples/text from a grammar:

     build/make_texts examples/text

     harbour.txt   sentences about a harbour, for a first language model
     kitchen.txt   another author: a cook's instructions
     reviews.tsv   opinions with the labels "good" and "bad"; reviews_test.tsv: others from the same
                   grammar, none of which is in reviews.tsv */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static uint64_t state = 20251;

static unsigned draw(unsigned count)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(state >> 33) % count;
}

/* Picks a word of a list whose words are separated by "|". */
static const char *pick(const char *list)
{
    static char words[16][64];
    static int next;
    char *word = words[next++ % 16];
    unsigned count = 1, wanted;
    const char *at;
    size_t length;
    for (at = list; *at; ++at) count += *at == '|';
    wanted = draw(count);
    for (at = list; wanted > 0; ++at) wanted -= *at == '|';
    length = strcspn(at, "|");
    memcpy(word, at, length);
    word[length] = 0;
    return word;
}

static void harbour(FILE *file)
{
    const char *who = "The keeper|The pilot|The old captain|A sailor|The harbour master|A boy";
    const char *verb = "watched|counted|painted|mended|followed|remembered";
    const char *what = "boats|nets|lamps|sails|ropes|waves|gulls|lanterns";
    const char *where = "by the pier|on the quay|near the lighthouse|in the fog|at the river mouth";
    const char *when = "at dusk|before dawn|all night|in the rain|until the tide turned";
    if (draw(3) == 0)
        fprintf(file, "%s the %s lay %s.\n", pick("In the morning|At noon|After the storm"),
                pick(what), pick(where));
    else
        fprintf(file, "%s %s the %s %s %s.\n", pick(who), pick(verb), pick(what), pick(where),
                pick(when));
}

static void kitchen(FILE *file)
{
    const char *verb = "Chop|Slice|Wash|Peel|Fry|Boil|Stir|Salt";
    const char *what = "onions|carrots|apples|mushrooms|beans|leeks|potatoes|plums";
    const char *how = "slowly|finely|in butter|with a sharp knife|over a low flame|until soft";
    const char *number = "two|three|four|a dozen|some|all the";
    if (draw(3) == 0)
        fprintf(file, "Then add the %s and wait %s minutes.\n", pick(what),
                pick("five|ten|twenty|a few"));
    else
        fprintf(file, "%s %s %s %s.\n", pick(verb), pick(number), pick(what), pick(how));
}

/* An opinion's words are all good or all bad: a language model can learn that without labels. */
static int review(char *to, size_t size)
{
    static const char *const words[2] = {
        "cold|stale|rude|stingy|noisy|dreary|hurried|dim|greasy|sour|bland|musty|gloomy|careless|"
        "shabby|clumsy|burnt|dusty|bitter|tired",
        "warm|fresh|charming|generous|quiet|lovely|patient|bright|crisp|sweet|tasty|clean|cheerful|"
        "careful|elegant|nimble|tender|spotless|mild|lively"};
    static const char *const ends[2] = {
        "we left early|a waste of an evening|worth nothing|I warned my friends|never again",
        "we shall come again|a joy from start to end|worth every coin|I told my friends|well done"};
    const char *what = "the soup|the bread|our waiter|the room|the view|the music|this cellar|the fish";
    int good = (int)draw(2), count = 0, clauses = 1 + (int)draw(3), i;
    for (i = 0; i < clauses; ++i)
        count += snprintf(to + count, size - (size_t)count, "%s%s was %s", i ? " and " : "",
                          pick(what), pick(words[good]));
    if (draw(2)) snprintf(to + count, size - (size_t)count, ", %s", pick(ends[good]));
    return good;
}

static FILE *create(const char *folder, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return fopen(path, "wb");
}

static void write_lines(const char *folder, const char *name, void (*line)(FILE *), int count)
{
    FILE *file = create(folder, name);
    for (; file && count > 0; --count) line(file);
    if (file) fclose(file);
}

enum { TRAIN = 1000, TEST = 300 };
static char reviews[TRAIN + TEST][256];

static int seen_before(int index)
{
    int i;
    for (i = 0; i < index; ++i)
        if (!strcmp(reviews[i], reviews[index])) return 1;
    return 0;
}

static void write_reviews(const char *folder)
{
    FILE *train = create(folder, "reviews.tsv"), *test = create(folder, "reviews_test.tsv");
    int i, good;
    for (i = 0; train && test && i < TRAIN + TEST; ++i) {
        do good = review(reviews[i], sizeof reviews[i]);
        while (seen_before(i));
        fprintf(i < TRAIN ? train : test, "%s\t%s\n", reviews[i], good ? "good" : "bad");
    }
    if (train) fclose(train);
    if (test) fclose(test);
}

int main(int count, char **words)
{
    const char *folder = count > 1 ? words[1] : "examples/text";
    write_lines(folder, "harbour.txt", harbour, 700);
    write_lines(folder, "kitchen.txt", kitchen, 250);
    write_reviews(folder);
    return 0;
}
