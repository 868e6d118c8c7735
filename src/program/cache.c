/* cache.c - compiled programs of a store, found again by what they compute: the hash of the tape, the device and the form.
 * At most eight a store, the least recently used goes. Tapes that refer to no store share the same rule in their context. */
#include "program/program.h"

static uint64_t mix(uint64_t hash, const void *data, size_t bytes) { /* FNV-1a */
    for (size_t i = 0; i < bytes; i++) hash = (hash ^ ((const unsigned char *)data)[i]) * 0x100000001B3u;
    return hash;
}

uint64_t fv_program_hash(const fv_tape *t, bool debug) {
    const char *device = t->object.context->device_name;
    uint64_t hash = fv_tape_hash(t);
    while (*device) hash = mix(hash, device++, 1);
    fv_precision precision = t->precision ? t->precision : t->object.context->precision;
    hash = mix(hash, &precision, sizeof precision);
    return mix(hash, &debug, sizeof debug);
}

/* ---- Programs of a store ----------------------------------------------------------------------------------------- */

static fv_program *make(fv_tape *tape, fv_store *store, uint64_t hash) {
    fv_program *p = fv_program_build(tape, store, false);
    if (!p) return NULL;
    p->hash = hash;
    if (fv_program_allocate(p)) {
        fv_program_free(p);
        return NULL;
    }
    p->cached = true;
    return p;
}

/* The slot that holds the hash, else an empty one, else the one not used for longest. */
static int choose_slot(const fv_store *s, uint64_t hash) {
    int oldest = 0, empty = -1;
    for (int k = 0; k < FV_STORE_PROGRAMS; k++) {
        if (!s->program[k])
            empty = empty < 0 ? k : empty;
        else if (s->program[k]->hash == hash)
            return k;
        else if (s->program[oldest] && s->used[k] < s->used[oldest])
            oldest = k;
    }
    return empty >= 0 ? empty : oldest;
}

static fv_program *of_store(fv_tape *tape, fv_store *s, uint64_t hash) {
    int k = choose_slot(s, hash);
    if (!s->program[k] || s->program[k]->hash != hash) {
        fv_program *made = make(tape, s, hash);
        if (!made) return NULL;
        fv_program_free(s->program[k]);
        s->program[k] = made;
    }
    s->used[k] = ++s->clock;
    return s->program[k];
}

/* ---- Programs without a store ------------------------------------------------------------------------------------ */

/* The ring of the context is their list: newest first, so a program that is used again goes to its head. */
static fv_program *of_context(fv_tape *tape, fv_context *c, uint64_t hash) {
    fv_program *oldest = NULL, *found = NULL;
    int count = 0;
    for (fv_object *o = c->objects.next; o != &c->objects; o = o->next) {
        fv_program *p = o->release == fv_program_release ? (fv_program *)o : NULL;
        if (!p || !p->cached || p->store) continue;
        if (p->hash == hash) found = p;
        oldest = p;
        count++;
    }
    if (!found) {
        found = make(tape, NULL, hash);
        if (found && count >= FV_STORE_PROGRAMS) fv_program_free(oldest);
        return found;
    }
    fv_object *o = &found->object;
    o->next->previous = o->previous;
    o->previous->next = o->next;
    fv_object_add(c, found, fv_program_release);
    return found;
}

fv_program *fv_program_cached(fv_tape *tape) {
    fv_context *c = tape ? tape->object.context : NULL;
    if (!fv_ok(c)) return NULL;
    fv_store *store = fv_tape_store(tape);
    uint64_t hash = fv_program_hash(tape, false);
    return store ? of_store(tape, store, hash) : of_context(tape, c, hash);
}
