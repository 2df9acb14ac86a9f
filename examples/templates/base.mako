<!DOCTYPE html>
<title>${title}</title>
${next.body()}
