/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A livepatch of klp_stateful. Before it is included: the table klp_states, if there is one, and
 * KLP_STATES_FIELDS, what struct klp_patch has beside `mod` and `objs`.
 */

/* Of klp_stateful */
extern int klp_stateful_number;

static int klp_states_show(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "version=" KBUILD_MODNAME " read=%d\n",
			 klp_stateful_number);
}

static struct klp_func funcs[] = {
	{ .old_name = "klp_stateful_show", .new_func = klp_states_show },
	{ }
};

static struct klp_object objs[] = {
	{ .name = "klp_stateful", .funcs = funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
	KLP_STATES_FIELDS
};

static int __init klp_states_init(void)
{
	return klp_enable_patch(&patch);
}
module_init(klp_states_init);

static void __exit klp_states_exit(void)
{
}
module_exit(klp_states_exit);

MODULE_DESCRIPTION("klp-e2e: a livepatch that changes system states, or none");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
