/* A stand-in of the agent's service for Windows, and what wine's own tools lack to prepare a machine.
 *   agent.exe              the service itself
 *   agent.exe trust FILE   puts a DER certificate into the machine's ROOT store
 */
#include <windows.h>
#include <wincrypt.h>
#include <stdio.h>
#include <string.h>

static SERVICE_STATUS status = {SERVICE_WIN32_OWN_PROCESS, SERVICE_RUNNING, SERVICE_ACCEPT_STOP, 0, 0, 0, 0};
static SERVICE_STATUS_HANDLE handle;

static void WINAPI control(DWORD code)
{
    if (code == SERVICE_CONTROL_STOP)
        status.dwCurrentState = SERVICE_STOPPED;
    SetServiceStatus(handle, &status);
}

static void WINAPI service_main(DWORD argc, char **argv)
{
    handle = RegisterServiceCtrlHandlerA("AmazonSSMAgent", control);
    SetServiceStatus(handle, &status);
    while (status.dwCurrentState == SERVICE_RUNNING)
        Sleep(100);
}

static int trust(const char *path)
{
    BYTE der[65536];
    FILE *file = fopen(path, "rb");
    DWORD size = file ? fread(der, 1, sizeof der, file) : 0;
    HCERTSTORE store = CertOpenStore(CERT_STORE_PROV_SYSTEM_A, 0, 0, CERT_SYSTEM_STORE_LOCAL_MACHINE, "ROOT");
    return !CertAddEncodedCertificateToStore(store, X509_ASN_ENCODING, der, size, CERT_STORE_ADD_ALWAYS, NULL)
        || !CertCloseStore(store, 0);
}

int main(int argc, char **argv)
{
    SERVICE_TABLE_ENTRYA table[] = {{"AmazonSSMAgent", service_main}, {NULL, NULL}};
    if (argc == 3 && !strcmp(argv[1], "trust"))
        return trust(argv[2]);
    return !StartServiceCtrlDispatcherA(table);
}
