// forks MODULE loads a PKCS#11 module, forks, and prints what C_Initialize says in the child and then in the parent.
#include <dlfcn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

struct list { // the beginning of CK_FUNCTION_LIST
	unsigned char version[2];
	unsigned long (*C_Initialize)(void *);
};

int main(int argc, char **argv) {
	struct list *list = NULL;
	unsigned long (*get)(struct list **) = NULL;
	void *module = argc == 2 ? dlopen(argv[1], RTLD_NOW) : NULL;
	if (!module) return 1;
	*(void **)&get = dlsym(module, "C_GetFunctionList");
	if (!get || get(&list) != 0) return 1;
	pid_t child = fork();
	if (child == 0) {
		printf("child %lu\n", list->C_Initialize(NULL));
		fflush(stdout);
		_exit(0);
	}
	waitpid(child, NULL, 0);
	printf("parent %lu\n", list->C_Initialize(NULL));
	return 0;
}
